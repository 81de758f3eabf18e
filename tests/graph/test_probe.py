from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.graph.probe import probe_model


def saved(path: Path, nodes: list[onnx.NodeProto], inits: list[onnx.TensorProto], functions: tuple = ()) -> Path:  # type: ignore[type-arg]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], inits)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))
    path.write_bytes(model.SerializeToString())
    return path


def test_a_good_model_runs_on_guessed_and_on_given_feeds(dense_onnx: Path) -> None:
    assert probe_model(dense_onnx).ran
    given = probe_model(dense_onnx, {"image": np.full((3, 1, 8, 8), np.inf, np.float32)})
    assert (given.ran, given.finite) == (True, False)


def test_feeds_that_do_not_fit(dense_onnx: Path) -> None:
    with pytest.raises(ModelError, match="the model failed to run: "):
        probe_model(dense_onnx, {"image": np.ones((3, 8), np.float32)})


def test_a_file_that_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=f"ONNX Runtime cannot load {path}: "):
        probe_model(path)


def test_a_constant_of_a_terabyte_harms_nobody(tmp_path: Path) -> None:
    """It passes the checker and loads; only the run asks for 2^38 floats."""
    shape = numpy_helper.from_array(np.array([2**38], np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["much"]),
        helper.make_node("Add", ["much", "x"], ["y"]),
    ]
    path = saved(tmp_path / "m.onnx", nodes, [shape])
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"the model failed to run: |crashes ONNX Runtime"):
        probe_model(path, {"x": np.ones(1, np.float32)}, timeout_s=120)
    assert time.monotonic() - started < 120


@pytest.mark.skipif(os.name != "posix", reason="speaks of signals")
def test_a_model_that_kills_the_runtime_kills_a_child_only(tmp_path: Path) -> None:
    """A chain of local functions so deep that inlining it overflows the stack."""
    depth = 3000
    functions = []
    for i in range(depth):
        inner = (
            helper.make_node(f"f{i + 1}", ["a"], ["b"], domain="own")
            if i < depth - 1
            else helper.make_node("Neg", ["a"], ["b"])
        )
        functions.append(
            helper.make_function(
                "own", f"f{i}", ["a"], ["b"], [inner], [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
            )
        )
    path = saved(tmp_path / "m.onnx", [helper.make_node("f0", ["x"], ["y"], domain="own")], [], tuple(functions))
    with pytest.raises(ModelError) as error:
        probe_model(path, timeout_s=120)
    assert str(path) in str(error.value)
    assert "crashes ONNX Runtime" in str(error.value) or "cannot" in str(error.value)


def test_a_model_that_does_not_come_to_an_end(tmp_path: Path) -> None:
    counter = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    going, still = (helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("going", "still"))
    before, after = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("before", "after"))
    body = helper.make_graph(
        [helper.make_node("Neg", ["before"], ["after"]), helper.make_node("Identity", ["going"], ["still"])],
        "body",
        [counter, going, before],
        [still, after],
    )
    inits = [
        helper.make_tensor("times", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("true", TensorProto.BOOL, [], [True]),
    ]
    path = saved(tmp_path / "m.onnx", [helper.make_node("Loop", ["times", "true", "x"], ["y"], body=body)], inits)
    with pytest.raises(ModelError) as error:
        probe_model(path, timeout_s=4)
    assert str(error.value) == f"{path} did not answer within 4 s; it hangs, or its inputs are too large"


def test_the_child_leaves_nothing_behind(dense_onnx: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TMPDIR", str(work))
    probe_model(dense_onnx, {"image": np.ones((1, 1, 8, 8), np.float32)})
    assert [p.name for p in work.iterdir() if p.name != ".ses"] == []  # ONNX Runtime's own, in the temporary directory
