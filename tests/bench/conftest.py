"""Small models to measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Maker = Callable[..., Path]


def save(
    path: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], weights: list[onnx.TensorProto]
) -> Path:
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "small", inputs, [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def chain(tmp_path: Path) -> Maker:
    """Make a chain of square MatMul and Relu: (batch, width) in and out."""

    def make(width: int = 16, layers: int = 4, batch: int | str = "batch", name: str = "chain") -> Path:
        rng, nodes, weights, last = np.random.default_rng(0), [], [], "x"
        for i in range(layers):
            weight = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
            weights.append(numpy_helper.from_array(weight, f"w{i}"))
            nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"], name=f"matmul{i}"))
            nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"], name=f"relu{i}"))
            last = f"r{i}"
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])]
        return save(tmp_path / f"{name}.onnx", nodes, inputs, weights)

    return make


@pytest.fixture
def two_dynamic_dims(tmp_path: Path) -> Path:
    """A model with a dynamic length beyond the batch."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", 4])]
    return save(tmp_path / "time.onnx", [helper.make_node("Relu", ["x"], ["y"])], inputs, [])


@pytest.fixture
def huge_at_run(tmp_path: Path) -> Path:
    """A model that asks for 2^40 floats when it runs."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    size = numpy_helper.from_array(np.array([1 << 40], np.int64), "size")
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("size", TensorProto.INT64, [1]),
    ]
    return save(tmp_path / "huge.onnx", nodes, inputs, [size])


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A model that loops for some thousand years when it runs."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Relu", ["held"], ["kept"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, [1, 16]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, [1, 16]),
        ],
    )
    weights = [
        numpy_helper.from_array(np.array(1 << 62, np.int64), "trips"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16])]
    return save(
        tmp_path / "endless.onnx", [helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body)], inputs, weights
    )


@pytest.fixture
def deep_functions(tmp_path: Path) -> Path:
    """A chain of 3000 local functions, which overflows the stack of ONNX Runtime 1.31."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    calls = [helper.make_node(f"F{i + 1}", ["a"], ["b"], domain="own") for i in range(2999)]
    calls.append(helper.make_node("Relu", ["a"], ["b"]))
    functions = [helper.make_function("own", f"F{i}", ["a"], ["b"], [call], opsets) for i, call in enumerate(calls)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("F0", ["x"], ["y"], domain="own")], "deep", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9), tmp_path / "deep.onnx")
    return tmp_path / "deep.onnx"
