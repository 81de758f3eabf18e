from __future__ import annotations

import pytest

from edgekit.ort import PROVIDERS, require_ort
from edgekit.ort.trial import Trial, try_provider

_OPENVINO = (
    "\x1b[1;31m2026-11-22 02:44:02.93 [E:onnxruntime:Default, provider_bridge_ort.cc:2310 Create] "
    "/onnxruntime/core/openvino_provider_factory.cc:141 std::string f(std::shared_ptr<OVCore>, const Options&) [ERROR] "
    "[OpenVINO] Device GPU.1 is not available\n\x1b[m\n"
)
_CUDA = (
    "2026-11-22 02:44:02.93 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "/src/cuda_call.cc:129 std::conditional_t<THRW, void, Status> Call(int, const char*) CUDA failure 101: invalid "
    "device ordinal ; GPU=7\n"
)
_PYTHON = "*** EP Error ***\nEP Error /src/python/state.cc:729 void f(Options&, int) Unknown option\n when using []\n"


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        (_OPENVINO, "Device GPU.1 is not available"),
        (_CUDA, "CUDA failure 101: invalid device ordinal ; GPU=7"),
        (_PYTHON, "Unknown option"),
        ("a warning\n", ""),
        ("", ""),
    ],
)
def test_a_complaint_without_its_trimmings(log: str, complaint: str) -> None:
    assert Trial(False, "it did not load", log).complaint == complaint


def test_the_cpu_works() -> None:
    assert try_provider("cpu").works


def test_what_does_not_load_leaves_a_log() -> None:
    if "CUDAExecutionProvider" not in require_ort().get_available_providers():
        pytest.skip("this ONNX Runtime was not built with CUDA")
    trial = try_provider("cuda")
    assert trial.works or "lib" in trial.complaint


def test_options_reach_the_provider(other_provider: str) -> None:
    trial = try_provider(other_provider, {"no_such_option": "1"})
    assert not trial.works
    assert "no_such_option" in trial.complaint


def test_a_device_that_is_not_there_is_named(other_provider: str) -> None:
    trial = try_provider(other_provider, PROVIDERS[other_provider].provider_options(1, 99))
    assert not trial.works
    assert "99" in trial.complaint
