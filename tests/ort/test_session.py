from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import ExportError, MissingPackageError, ModelError, ProviderError
from edgekit.machine import available_cores
from edgekit.ort import PROVIDERS, Session, ceiling_of, installed_ceiling, require_ort


def test_outputs_against_numpy(dense_onnx: Path, dense_weight: Any) -> None:
    session = Session(dense_onnx)
    x = np.random.default_rng(1).standard_normal((5, 1, 8, 8)).astype(np.float32)
    (out,) = session.run({"image": x})
    np.testing.assert_allclose(out, x.reshape(5, 64) @ dense_weight, rtol=1e-5, atol=1e-5)


def test_what_it_says_of_itself(dense_onnx: Path) -> None:
    session = Session(dense_onnx)
    assert str(session.inputs[0]) == "image: float32 batchx1x8x8"
    assert session.outputs[0].shape == ("batch", 10)
    assert session.metadata == {"owner": "somebody"}
    assert session.providers_used == ["CPUExecutionProvider"]
    assert session.threads == available_cores()
    assert Session(dense_onnx, threads=1).threads == 1


def test_bytes_are_a_model_too(dense_proto: onnx.ModelProto) -> None:
    assert Session(dense_proto.SerializeToString()).inputs[0].name == "image"


def test_unknown_provider_gives_the_nearest(dense_onnx: Path) -> None:
    with pytest.raises(ProviderError) as error:
        Session(dense_onnx, "cud")
    assert str(error.value).startswith("unknown provider 'cud'; did you mean 'cuda'? allowed: coreml, cpu, cuda, ")
    assert error.value.exit_code == 3


def test_a_provider_that_this_build_lacks(dense_onnx: Path) -> None:
    there = require_ort().get_available_providers()
    lacking = next(p for p in PROVIDERS.values() if p.ort_name not in there)
    with pytest.raises(ProviderError) as error:
        Session(dense_onnx, lacking.name)
    assert str(error.value) == (
        f"provider {lacking.name!r} is not in the installed ONNX Runtime; it comes with {lacking.package}"
    )


def test_a_provider_that_does_not_load_is_no_silent_cpu(dense_onnx: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if "CUDAExecutionProvider" not in require_ort().get_available_providers():
        pytest.skip("this ONNX Runtime was not built with CUDA")
    try:
        used = Session(dense_onnx, "cuda").providers_used
    except ProviderError as error:
        assert str(error).startswith("provider 'cuda' did not load on this machine")  # noqa: PT017
    else:
        assert used[0] == "CUDAExecutionProvider"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"picture": np.ones((1, 1, 8, 8), np.float32)},
        {"image": np.ones((1, 8, 8), np.float32)},
        {"image": np.ones((1, 3, 8, 8), np.float32)},
        {"image": np.ones((1, 1, 8, 8), np.float64)},
        {"image": np.ones((1, 1, 8, 8), np.float32), "more": np.ones(1, np.float32)},
    ],
    ids=["none", "wrong name", "wrong rank", "wrong dimension", "wrong dtype", "one too many"],
)
def test_feeds_that_do_not_fit_are_a_model_error_of_one_line(dense_onnx: Path, feeds: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"^the model failed to run: .+") as error:
        Session(dense_onnx).run(feeds)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_files_that_do_not_load(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"ONNX Runtime cannot load {re.escape(str(path))}: .+"):
        Session(path)


def test_without_onnx_runtime(process: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('no module', name='onnxruntime')")
    code = "from edgekit.ort import require_ort; require_ort()"
    answer = process(code=code, PYTHONPATH=str(tmp_path))
    assert answer.err.splitlines()[-1] == (
        "edgekit.errors.MissingPackageError: ONNX Runtime is not installed; install exactly one: pip install "
        "'edgekit[cpu]' or, with an NVIDIA GPU, pip install 'edgekit[gpu]'"
    )
    assert issubclass(MissingPackageError, Exception)


@pytest.mark.parametrize(
    ("version", "opset", "ir"), [("1.31", 26, 13), ("1.20.1", 21, 10), ("1.8", 14, 7), ("2.0", 26, 13)]
)
def test_ceilings(version: str, opset: int, ir: int) -> None:
    assert ceiling_of(version) == (opset, ir)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.7", "ONNX Runtime 1.7 is too old; the oldest that edgekit writes for is 1.8"),
        ("new", "ONNX Runtime version 'new' is not of the form X.Y, such as 1.20"),
        ("", "ONNX Runtime version '' is not of the form X.Y, such as 1.20"),
    ],
)
def test_versions_that_have_no_ceiling(version: str, message: str) -> None:
    with pytest.raises(ExportError) as error:
        ceiling_of(version)
    assert str(error.value) == message


def test_the_installed_ceiling_is_what_the_runtime_really_loads(dense_proto: onnx.ModelProto) -> None:
    ceiling = installed_ceiling()
    dense_proto.opset_import[0].version = ceiling.opset
    dense_proto.ir_version = ceiling.ir_version
    Session(dense_proto.SerializeToString())
    dense_proto.opset_import[0].version = ceiling.opset + 1
    with pytest.raises(ModelError):
        Session(dense_proto.SerializeToString())
    dense_proto.opset_import[0].version = ceiling.opset
    dense_proto.ir_version = ceiling.ir_version + 1
    with pytest.raises(ModelError):
        Session(dense_proto.SerializeToString())
