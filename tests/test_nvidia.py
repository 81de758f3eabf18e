"""The driver's answers, from a library and a program made here that answer as NVIDIA's do."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from edgekit import nvidia
from edgekit.errors import ProviderError
from edgekit.nvidia import DeviceMemory, Gpu, gpus, used_memory
from edgekit.ort import PROVIDERS
from edgekit.ort.execution import check_device

_DRIVER = r"""
#include <stddef.h>
#include <stdio.h>
#include <string.h>
int cuInit(unsigned f) { return INIT; }
int cuDriverGetVersion(int *v) { *v = 13010; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i + 100; return 0; }
int cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "NVIDIA Test %d", d); return 0; }
int cuDeviceGetUuid(unsigned char *u, int d) { memset(u, d, 16); return 0; }
int cuDeviceTotalMem_v2(size_t *m, int d) { *m = (size_t)24 << 30; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 9 : -1; return 0; }
"""
_SMI = """#!/bin/sh
case "$*" in
  *GPU-64646464-6464-6464-6464-646464646464*driver_version*) echo 580.65.06 ;;
  *GPU-64646464-6464-6464-6464-646464646464*query-gpu=memory.used*) echo 1024 ;;
  *GPU-64646464-6464-6464-6464-646464646464*compute-apps*) echo "1, 77"; echo "$PID, 300" ;;
  *) exit 6 ;;
esac
"""


def _library(directory: Path, status: int) -> ctypes.CDLL:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build a driver's library with")
    source, built = directory / "driver.c", directory / f"driver{status}.so"
    source.write_text(_DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", f"-DINIT={status}", "-o", str(built), str(source)], check=True)
    return ctypes.CDLL(str(built))


@pytest.fixture
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_nvml: None) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(_SMI.replace("$PID", str(os.getpid())))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    gpus.cache_clear()
    library = _library(tmp_path, 0)
    monkeypatch.setattr(nvidia, "_driver_library", lambda: library)
    yield
    gpus.cache_clear()


@pytest.mark.usefixtures("driver", "smi")
def test_gpus_as_cuda_counts_them() -> None:
    first, second = gpus()
    uuid = "GPU-64646464-6464-6464-6464-646464646464"
    assert first == Gpu(0, "NVIDIA Test 100", uuid, "8.9", 24 << 30, "13.1", "580.65.06")
    assert (second.index, second.name, second.driver) == (1, "NVIDIA Test 101", None)
    assert str(first) == "0: NVIDIA Test 100, 24 GiB"


@pytest.mark.usefixtures("driver", "smi")
def test_memory_by_nvidia_smi() -> None:
    first, second = gpus()
    assert used_memory(first) == DeviceMemory(own_bytes=300 << 20, all_bytes=1 << 30)
    assert used_memory(second) == DeviceMemory(None, None)


@pytest.mark.usefixtures("driver", "no_nvml")
def test_memory_where_nothing_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert used_memory(gpus()[0]) == DeviceMemory(None, None)
    assert gpus()[0].driver is None


@pytest.mark.usefixtures("driver")
def test_memory_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [SimpleNamespace(pid=1, usedGpuMemory=5), SimpleNamespace(pid=os.getpid(), usedGpuMemory=7)]
    nvml = ModuleType("pynvml")
    vars(nvml).update(
        NVMLError=ValueError,
        nvmlInit=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: processes,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=12),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert gpus()[0].driver == "580.1"
    assert used_memory(gpus()[0]) == DeviceMemory(7, 12)
    processes.pop()
    assert used_memory(gpus()[0]) == DeviceMemory(None, 12)


@pytest.mark.usefixtures("driver", "smi")
def test_a_device_beyond_the_last_is_refused_with_the_list() -> None:
    check_device(PROVIDERS["cuda"], 1)
    with pytest.raises(ProviderError, match="device 2 is not on this machine; it has 0: NVIDIA Test 100, 24 GiB; 1: "):
        check_device(PROVIDERS["tensorrt"], 2)


def test_a_driver_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.cache_clear()
    library = _library(tmp_path, 100)  # CUDA_ERROR_NO_DEVICE
    monkeypatch.setattr(nvidia, "_driver_library", lambda: library)
    assert gpus() == ()
    gpus.cache_clear()


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.cache_clear()
    monkeypatch.setattr(nvidia, "_driver_library", lambda: None)
    assert gpus() == ()
    assert nvidia.has_driver() is False
    gpus.cache_clear()
