from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import ExportError, ModelError, OutputError
from edgekit.export import export_source, torch_onnx
from edgekit.export.onnx_onnx import parse_fix
from edgekit.export.torch_onnx import check_parity
from edgekit.ort import Session, ceiling_of, installed_ceiling
from edgekit.training.checkpoint import TrainedModel, load_checkpoint

Tree = Callable[[Path], dict[str, str]]


def opset(path: Path) -> int:
    return next(o.version for o in onnx.load(path).opset_import if o.domain in ("", "ai.onnx"))


def images(n: int) -> dict[str, Any]:
    return {"image": np.random.default_rng(n).standard_normal((n, 1, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_export_agrees_with_torch_at_every_batch(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place, out = request.getfixturevalue(f"pico_{family}"), tmp_path / "m.onnx"
    result = export_source(place, out)
    assert result["exporter"] == "dynamo"
    assert result["parity"]["batches"] == (1, 2, 7)
    assert result["parity"]["max_abs"] < 1e-4
    assert result["parity"]["max_rel"] < 1e-4
    session, model = Session(out), load_checkpoint(place)
    assert str(session.inputs[0]) == "image: float32 batchx1x8x8"
    assert (session.outputs[0].name, session.outputs[0].shape) == ("logits", ("batch", 10))
    for n in (1, 3, 33):
        np.testing.assert_allclose(session.run(images(n))[0], model.run(images(n))[0], rtol=1e-4, atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_metadata_says_what_an_app_needs(pico_onnx: Path) -> None:
    metadata = Session(pico_onnx).metadata
    assert {k: metadata[f"edgekit.{k}"] for k in ("family", "size", "task", "data")} == {
        "family": "cnn",
        "size": "pico",
        "task": "classification",
        "data": "digits",
    }
    assert json.loads(metadata["edgekit.classes"]) == [str(d) for d in range(10)]
    assert json.loads(metadata["edgekit.preprocessing"])["mean"] == [0.3053]
    assert b"/edgekit/" not in pico_onnx.read_bytes()  # no paths of the machine that made it


@pytest.mark.parametrize("wanted", [18, 17, 13])
def test_opset(pico_cnn: Path, tmp_path: Path, wanted: int) -> None:
    result = export_source(pico_cnn, tmp_path / "m.onnx", opset=wanted)
    assert result["opset"] == opset(tmp_path / "m.onnx") == wanted
    assert result["parity"]["max_abs"] < 1e-4


@pytest.mark.parametrize("wanted", [999, 6, 0, -1])
@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_an_opset_that_cannot_be_had(pico_cnn: Path, dense_onnx: Path, tmp_path: Path, wanted: int, kind: str) -> None:
    out = tmp_path / "out" / "m.onnx"
    with pytest.raises(ExportError) as error:
        export_source(pico_cnn if kind == "checkpoint" else dense_onnx, out, opset=wanted)
    highest = installed_ceiling().opset
    assert str(error.value) == (f"opset {wanted} cannot be had: ONNX Runtime as installed loads 7 to {highest}")
    assert not out.parent.exists()


def test_an_older_runtime_gets_what_it_loads(pico_cnn: Path, tmp_path: Path) -> None:
    result = export_source(pico_cnn, tmp_path / "m.onnx", target_ort="1.13")
    assert (result["opset"], result["ir_version"]) == tuple(ceiling_of("1.13"))
    assert onnx.load(tmp_path / "m.onnx").ir_version <= 8
    with pytest.raises(ExportError, match=r"opset 18 cannot be had: ONNX Runtime 1\.13 loads 7 to 17"):
        export_source(pico_cnn, tmp_path / "n.onnx", target_ort="1.13", opset=18)


def test_a_fixed_batch(pico_cnn: Path, tmp_path: Path) -> None:
    result = export_source(pico_cnn, tmp_path / "m.onnx", fix=["batch=1"])
    session = Session(tmp_path / "m.onnx")
    assert session.inputs[0].shape == (1, 1, 8, 8)
    assert result["parity"]["batches"] == (1,)
    np.testing.assert_allclose(session.run(images(1))[0], load_checkpoint(pico_cnn).run(images(1))[0], atol=1e-4)
    with pytest.raises(ModelError):
        session.run(images(2))


@pytest.mark.parametrize("text", ["batch", "=1", "batch=one", "batch="])
def test_fix_that_is_none(text: str) -> None:
    with pytest.raises(ExportError, match=r"^--fix "):
        parse_fix([text])


def test_fix_of_a_name_that_is_not_there(dense_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises((ExportError, ModelError)) as error:
        export_source(dense_onnx, tmp_path / "m.onnx", fix=["length=8"])
    assert "length" in str(error.value)
    assert "batch" in str(error.value)
    assert not (tmp_path / "m.onnx").exists()


def test_failing_parity_writes_nothing(pico_cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_onnx, "check_parity", lambda model, path, _: check_parity(model, path, tolerance=1e-12))
    (tmp_path / "m.onnx").write_text("old")
    with pytest.raises(ExportError, match=r"differs from torch by .* at batches 1, 2, 7; at most 1e-12 is allowed"):
        export_source(pico_cnn, tmp_path / "m.onnx")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("m.onnx", "old")]


def test_the_older_exporter_steps_in_and_the_result_says_so(
    pico_cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: TrainedModel, opset: int) -> Any:
        raise ValueError("no such operator")

    monkeypatch.setattr(torch_onnx, "_export_dynamo", fail)
    result = export_source(pico_cnn, tmp_path / "m.onnx")
    assert result["exporter"] == "torchscript"
    assert result["note"] == "the dynamo exporter failed: ValueError: no such operator"
    assert result["parity"]["max_abs"] < 1e-4
    monkeypatch.setattr(torch_onnx, "_export_torchscript", fail)
    with pytest.raises(ExportError, match=r"family 'cnn' does not export at opset 18; the dynamo exporter failed"):
        export_source(pico_cnn, tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()


def test_onnx_is_rewritten_and_still_says_the_same(dense_onnx: Path, tmp_path: Path, tree: Tree) -> None:
    before = dense_onnx.read_bytes()
    result = export_source(dense_onnx, tmp_path / "out.onnx", opset=13, target_ort="1.12", fix=["batch=4"])
    assert (result["opset"], result["exporter"], result["max_abs"]) == (13, "onnx", pytest.approx(0, abs=1e-4))
    assert result["ir_version"] <= 8
    session = Session(tmp_path / "out.onnx")
    assert session.inputs[0].shape == (4, 1, 8, 8)
    assert session.metadata == {"owner": "somebody"}
    np.testing.assert_allclose(session.run(images(4))[0], Session(dense_onnx).run(images(4))[0], atol=1e-5)
    assert dense_onnx.read_bytes() == before


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not there; give the path of an \.onnx file"):
        export_source(tmp_path / "no.onnx", tmp_path / "out.onnx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="is no checkpoint of edgekit"):
        export_source(tmp_path / "empty", tmp_path / "out.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_the_source_is_never_the_output(dense_onnx: Path, tmp_path: Path) -> None:
    before = dense_onnx.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(dense_onnx)
    for out in (dense_onnx, link):
        with pytest.raises(OutputError, match="edgekit never overwrites its input"):
            export_source(dense_onnx, out)
    assert dense_onnx.read_bytes() == before
