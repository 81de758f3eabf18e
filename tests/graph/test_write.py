from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.errors import ModelError, OutputError
from edgekit.graph import write
from edgekit.graph.write import write_model

Tree = Callable[[Path], dict[str, str]]


def test_what_is_written_is_what_was_given(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    before = dense_proto.SerializeToString(deterministic=True)
    probe = write_model(dense_proto, tmp_path / "m.onnx")
    assert (probe.ran, probe.finite) == (True, True)
    assert onnx.load(tmp_path / "m.onnx") == dense_proto
    assert dense_proto.SerializeToString(deterministic=True) == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_the_same_model_gives_the_same_bytes(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        write_model(dense_proto, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_large_models_keep_their_weights_beside_them(
    dense_proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_EXTERNAL_ABOVE", 1000)
    write_model(dense_proto, tmp_path / "m.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert onnx.load(tmp_path / "m.onnx").graph.initializer[0].raw_data == dense_proto.graph.initializer[0].raw_data


def test_what_the_checker_refuses_is_not_written(dense_proto: onnx.ModelProto, tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "m.onnx").write_text("old")
    before = tree(tmp_path)
    dense_proto.graph.node[1].op_type = "MatMull"
    with pytest.raises(ModelError, match=r"edgekit made a model that the ONNX checker refuses: .*MatMull"):
        write_model(dense_proto, tmp_path / "m.onnx")
    assert tree(tmp_path) == before


def test_what_does_not_run_is_not_written(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    del dense_proto.graph.initializer[0].dims[:]
    dense_proto.graph.initializer[0].dims.extend([10, 64])
    with pytest.raises(ModelError):
        write_model(dense_proto, tmp_path / "m.onnx", feeds={"image": np.ones((1, 1, 8, 8), np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError):
        write_model(dense_proto, tmp_path / "file" / "m.onnx")
    assert (tmp_path / "file").read_text() == "kept"
