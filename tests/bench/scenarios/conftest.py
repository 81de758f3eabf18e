"""A model that never ends, and plans that are over at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A Loop of 2^50 rounds."""
    x, y, v, w = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y", "v", "w"))
    go, went = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "went"))
    nodes = [helper.make_node("Identity", ["go"], ["went"]), helper.make_node("Sin", ["v"], ["w"])]
    body = helper.make_graph(
        nodes, "body", [helper.make_tensor_value_info("i", TensorProto.INT64, []), go, v], [went, w]
    )
    loop = helper.make_node("Loop", ["rounds", "start", "x"], ["y"], body=body)
    constants = {"rounds": np.array(1 << 50, np.int64), "start": np.array(True)}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([loop], "endless", [x], [y], weights)
    path = tmp_path / "endless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
