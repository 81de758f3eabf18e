"""What the NVIDIA driver tells: GPUs as CUDA counts them, its version, and device memory in use.

GPUs come from the driver's own library, so that `index` is what `device_id` means to ONNX Runtime, CUDA_VISIBLE_DEVICES
included; nvidia-smi counts otherwise, and is asked by UUID only.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU that this process may use.

    Attributes:
        index: As CUDA counts; what `--device` takes.
        compute_capability: Such as "9.0"; engines built for one do not run on another.
        cuda: Newest CUDA that the driver supports.
        driver: The driver's version; None where neither NVML nor nvidia-smi tells.
    """

    index: int
    name: str
    uuid: str
    compute_capability: str
    memory_bytes: int
    cuda: str
    driver: str | None

    def __str__(self) -> str:
        return f"{self.index}: {self.name}, {self.memory_bytes / 2**30:.0f} GiB"


class DeviceMemory(NamedTuple):
    """Memory of a GPU in use.

    Attributes:
        own_bytes: By this process; None where the driver does not tell (in containers it knows other process numbers).
        all_bytes: By everybody; None where nothing tells.
    """

    own_bytes: int | None
    all_bytes: int | None


def has_driver() -> bool:
    """Whether the driver's library loads."""
    return _driver_library() is not None


@cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use; none without a driver."""
    library = _driver_library()
    if library is None or library.cuInit(0) != 0:
        return ()
    count, version = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(_describe(library, index, cuda) for index in range(count.value))


def used_memory(gpu: Gpu) -> DeviceMemory:
    """Device memory in use now, by NVML (package nvidia-ml-py) or else by nvidia-smi."""
    nvml = _nvml()
    if nvml is not None:
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            own = [p.usedGpuMemory for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid == os.getpid()]
            return DeviceMemory(own[0] if own else None, nvml.nvmlDeviceGetMemoryInfo(handle).used)
        except nvml.NVMLError:
            pass  # nvidia-smi may still tell
    total = _smi(gpu.uuid, "--query-gpu=memory.used")
    rows = [line.split(",") for line in _smi(gpu.uuid, "--query-compute-apps=pid,used_memory")]
    mine = [_mebibytes(row[1]) for row in rows if row[0].strip() == str(os.getpid())]
    return DeviceMemory(mine[0] if mine else None, _mebibytes(total[0]) if total else None)


def _describe(library: Any, index: int, cuda: str) -> Gpu:
    device, name, identity, memory = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)(), _size()
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceGetUuid(identity, device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    known = f"GPU-{uuid.UUID(bytes=bytes(identity))}"
    capability = f"{major.value}.{minor.value}"
    return Gpu(index, name.value.decode(), known, capability, memory.value, cuda, _driver_version(known))


def _size() -> ctypes.c_size_t:
    return ctypes.c_size_t()


@cache
def _driver_library() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return None


def _driver_version(known: str) -> str | None:
    nvml = _nvml()
    if nvml is not None:
        return str(nvml.nvmlSystemGetDriverVersion())
    lines = _smi(known, "--query-gpu=driver_version")
    return lines[0].strip() if lines else None


def _nvml() -> Any:
    """NVIDIA's binding, initialised; None where it is not installed or finds no driver."""
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _smi(known: str, *query: str) -> list[str]:
    """The lines that nvidia-smi answers for one GPU; none where it is missing or refuses."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "-i", known, *query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _mebibytes(text: str) -> int | None:
    return int(text) << 20 if text.strip().isdigit() else None  # "[N/A]" where the driver does not tell
