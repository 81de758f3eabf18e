from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from edgekit import doctor
from edgekit.doctor import Diagnosis, ProviderState, examine, ort_distributions
from edgekit.nvidia import Gpu
from edgekit.ort import PROVIDERS
from edgekit.ort.libraries import brings, missing_libraries


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    return examine()


def test_it_is_quick() -> None:
    started = time.monotonic()
    examine()
    assert time.monotonic() - started < 15  # 1 to 2 s on an idle machine


def test_it_knows_this_python_and_its_packages(diagnosis: Diagnosis) -> None:
    document = json.loads(json.dumps(diagnosis.as_dict()))
    assert document["packages"]["numpy"] == metadata.version("numpy")
    assert len(document["ort_distributions"]) == 1
    assert document["cores"] >= 1
    assert document["memory_bytes"] > 100_000_000
    assert document["healthy"] is (not document["problems"])


def test_the_cpu_provider_works_and_others_name_what_they_miss(diagnosis: Diagnosis) -> None:
    states = {p.name: p for p in diagnosis.providers}
    assert states["cpu"].works
    for state in states.values():
        assert state.works or (state.reason and state.fix)
    cuda = states.get("cuda")
    if cuda is not None and not cuda.works:
        assert all(".so" in name for name in cuda.missing)
        assert cuda.missing


def _install(place: Path, name: str, version: str, package: str) -> None:
    """What pip leaves of a distribution: its metadata, and the list of its files."""
    directory = place / f"{name.replace('-', '_')}-{version}.dist-info"
    directory.mkdir(parents=True)
    (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (directory / "RECORD").write_text(f"{package}/__init__.py,,\n{package}/capi/_pybind_state.py,,\n")


@pytest.fixture
def two_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with two of them, and what only sounds like one."""
    _install(tmp_path, "onnxruntime", "1.24.0", "onnxruntime")
    _install(tmp_path, "onnxruntime-gpu", "1.31.1", "onnxruntime")
    _install(tmp_path, "onnxruntime-extensions", "0.14.0", "onnxruntime_extensions")
    _install(tmp_path, "numpy", "2.0", "numpy")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])


@pytest.mark.usefixtures("two_runtimes")
@pytest.mark.parametrize(("driver", "kept"), [(True, "onnxruntime-gpu==1.31.1"), (False, "onnxruntime==1.24.0")])
def test_two_runtimes_are_a_problem_with_the_line_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, driver: bool, kept: str
) -> None:
    monkeypatch.setattr(doctor.nvidia, "has_driver", lambda: driver)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    assert ort_distributions() == {"onnxruntime": "1.24.0", "onnxruntime-gpu": "1.31.1"}
    (problem,) = doctor._runtime_problems(ort_distributions(), "")
    assert problem.what.startswith("onnxruntime 1.24.0 and onnxruntime-gpu 1.31.1 are installed together")
    pip = f"{sys.executable} -m pip"
    assert problem.fix == f"{pip} uninstall -y onnxruntime onnxruntime-gpu && {pip} install --no-deps {kept}"


@pytest.mark.usefixtures("two_runtimes")
def test_an_environment_without_pip_gets_uvs_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    (problem,) = doctor._runtime_problems(ort_distributions(), "")
    where = f"--python {sys.executable}"
    assert problem.fix == (
        f"uv pip uninstall {where} onnxruntime onnxruntime-gpu && uv pip install {where} --no-deps onnxruntime==1.24.0"
    )


def test_brackets_of_packages_stay(diagnosis: Diagnosis) -> None:
    from rich.text import Text

    from edgekit.report.diagnosis import _rows

    fix = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    state = ProviderState("cuda", "CUDAExecutionProvider", False, ("libcudnn.so.9",), "not found: libcudnn.so.9", fix)
    rows = dict(_rows(replace(diagnosis, providers=(state,))))
    assert Text.from_markup(rows["provider cuda"]).plain == f"not found: libcudnn.so.9; {fix}"


def test_every_installed_runtime_is_in_the_table(diagnosis: Diagnosis) -> None:
    from edgekit.report.diagnosis import _rows

    gpu = Gpu(0, "NVIDIA L4", "GPU-1", "8.9", 24 << 30, "13.0", "580.65.06")
    rows = dict(_rows(replace(diagnosis, gpus=(gpu,), ort_distributions={"onnxruntime": "1.24.0", "ort": "2"})))
    assert rows["ONNX Runtime"] == "onnxruntime 1.24.0  ort 2"
    assert rows["GPU 0"] == "NVIDIA L4, 25.8 GB, SM 8.9, driver 580.65.06, CUDA 13.0"
    assert json.loads(json.dumps(replace(diagnosis, gpus=(gpu,)).as_dict()))["gpus"][0]["name"] == "NVIDIA L4"


def test_no_runtime_is_a_problem() -> None:
    (problem,) = doctor._runtime_problems({}, "")
    assert problem.what == "no ONNX Runtime is installed"
    assert problem.fix.startswith("pip install onnxruntime")


def test_a_broken_runtime_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ImportError("cannot import name 'get_available_providers'")

    monkeypatch.setattr(doctor, "require_ort", broken)
    found = examine()
    assert found.providers == ()
    assert "installed but does not import: cannot import name" in found.problems[0].what


def test_a_provider_for_nvidia_is_a_problem_only_where_there_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ProviderState("cuda", "CUDAExecutionProvider", False, ("libcudnn.so.9",), "not found: libcudnn.so.9", "x")
    monkeypatch.setattr(doctor.nvidia, "has_driver", lambda: True)
    assert [p.what for p in doctor._provider_problems([state])] == [
        "provider cuda does not load: not found: libcudnn.so.9"
    ]
    monkeypatch.setattr(doctor.nvidia, "has_driver", lambda: False)
    assert doctor._provider_problems([state]) == []


def test_a_cpu_without_vnni_is_told_what_to_do() -> None:
    assert "cpu-no-vnni" in doctor._cpu_problems({"AVX2": True, "AVX512-VNNI": False})[0].fix
    assert doctor._cpu_problems({"AVX2": True, "AVX512-VNNI": True}) == []
    assert doctor._cpu_problems({"NEON": True}) == []


def test_the_loaders_complaint_names_the_library() -> None:
    log = "Failed to load library x.so with error: libmissing.so.9: cannot open shared object file: No such file"
    assert missing_libraries(PROVIDERS["dnnl"], log) == ["libmissing.so.9"]


@pytest.mark.parametrize(
    ("library", "what"),
    [
        ("libcuda.so.1", "an NVIDIA driver"),
        ("libcudnn.so.9", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ("libnvinfer.so.10", "TensorRT 10"),
        ("libfoo.so", ""),
    ],
)
def test_what_brings_a_library(library: str, what: str) -> None:
    assert brings(library).startswith(what)
    assert bool(brings(library)) is bool(what)
