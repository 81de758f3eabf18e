"""Every operator in torch against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgekit.graph.operators import OPERATORS
from edgekit.graph.trainable import GraphModule
from edgekit.ort import Session
from edgekit.specs import Array

RNG = np.random.default_rng(0)


def f(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i(*values: int) -> Array:
    return np.array(values, np.int64)


def b(*values: bool) -> Array:
    return np.array(values, bool)


Case = tuple[str, Sequence[Array | None], dict[str, Any]]
CASES: list[Case] = [
    ("Abs", [f(2, 3)], {}),
    ("Add", [f(2, 3), f(3)], {}),
    ("And", [b(True, False), b(True, True)], {}),
    ("AveragePool", [f(1, 2, 6, 6)], {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [2, 2]}),
    ("AveragePool", [f(1, 2, 7, 7)], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("BatchNormalization", [f(2, 3, 4), f(3), f(3), f(3), np.abs(f(3))], {"epsilon": 1e-3}),
    ("Cast", [f(2, 3)], {"to": TensorProto.INT64}),
    ("Clip", [f(2, 3), np.array(-0.5, np.float32), None], {}),
    ("Concat", [f(2, 3), f(2, 1)], {"axis": 1}),
    ("ConstantOfShape", [i(2, 3)], {"value": numpy_helper.from_array(np.array([2.5], np.float32))}),
    ("Conv", [f(2, 4, 7, 7), f(6, 2, 3, 3), f(6)], {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("Conv", [f(1, 3, 8), f(4, 3, 3)], {"pads": [2, 0], "dilations": [2]}),
    ("ConvTranspose", [f(1, 4, 5, 5), f(4, 3, 3, 3), f(3)], {"pads": [1] * 4, "strides": [2, 2]}),
    ("Cos", [f(3)], {}),
    ("DepthToSpace", [f(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [f(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("Div", [f(2, 3), f(3)], {}),
    ("Div", [i(7, -7), i(2, 2)], {}),
    ("Elu", [f(2, 3)], {"alpha": 0.5}),
    ("Equal", [i(1, 2), i(1, 3)], {}),
    ("Erf", [f(2, 3)], {}),
    ("Exp", [f(2, 3)], {}),
    ("Expand", [f(2, 1), i(3, 1, 4)], {}),
    ("Flatten", [f(2, 3, 4)], {"axis": 2}),
    ("Flatten", [f(2, 3)], {"axis": 0}),
    ("Gather", [f(4, 3), i(2, -1)], {}),
    ("Gather", [f(4, 3), np.array(1, np.int64)], {"axis": 1}),
    ("GatherND", [f(4, 3, 2), np.array([[[0, 1], [3, -1]]])], {}),
    ("GatherND", [f(2, 4, 3), np.array([[[1], [3], [-1]], [[0], [2], [2]]])], {"batch_dims": 1}),
    ("GatherND", [f(2, 2, 3), np.array([[[2], [0]], [[1], [1]]])], {"batch_dims": 2}),
    ("Gemm", [f(3, 2), f(4, 3), f(4)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("GlobalAveragePool", [f(2, 3, 4, 5)], {}),
    ("Greater", [f(3), f(3)], {}),
    ("GreaterOrEqual", [i(1, 2), i(1, 3)], {}),
    ("HardSigmoid", [f(8)], {"alpha": 0.3, "beta": 0.4}),
    ("HardSwish", [f(8)], {}),
    ("Identity", [f(2)], {}),
    ("LayerNormalization", [f(2, 3, 4), f(4), f(4)], {"epsilon": 1e-6}),
    ("LeakyRelu", [f(2, 3)], {"alpha": 0.2}),
    ("Less", [f(3), f(3)], {}),
    ("LessOrEqual", [i(1, 2), i(1, 1)], {}),
    ("Log", [np.abs(f(3))], {}),
    ("LogSoftmax", [f(2, 3)], {}),
    ("MatMul", [f(2, 3, 4), f(4, 5)], {}),
    ("Max", [f(3), f(3), f(3)], {}),
    ("MaxPool", [f(1, 2, 7, 7)], {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [2, 2]}),
    ("MaxPool", [-1 - np.abs(f(1, 2, 4, 4))], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
    ("Min", [f(3), f(3)], {}),
    ("Mul", [f(2, 3), f(3)], {}),
    ("Neg", [f(3)], {}),
    ("Not", [b(True, False)], {}),
    ("Or", [b(True, False), b(False, False)], {}),
    ("Pad", [f(2, 3), i(0, 1, 0, 2), np.array(1.5, np.float32)], {}),
    ("Pad", [f(1, 1, 4, 4), i(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "reflect"}),
    ("Pow", [f(3), np.array(2, np.float32)], {}),
    ("Range", [np.array(1, np.int64), np.array(7, np.int64), np.array(2, np.int64)], {}),
    ("Reciprocal", [f(3)], {}),
    ("ReduceMax", [f(2, 3, 4), i(1)], {"keepdims": 0}),
    ("ReduceMean", [f(2, 3, 4), i(-1, 1)], {}),
    ("ReduceSum", [f(2, 3)], {}),
    ("Relu", [f(2, 3)], {}),
    ("Reshape", [f(2, 3, 4), i(0, -1)], {}),
    ("Shape", [f(2, 3, 4)], {"start": 1}),
    ("Sigmoid", [f(3)], {}),
    ("Sin", [f(3)], {}),
    ("Slice", [f(4, 6), i(1, 0), i(3, -1), i(0, 1), i(1, 2)], {}),
    ("Slice", [f(4, 6), i(1), i(1 << 62)], {}),
    ("Slice", [f(4, 6), i(-(1 << 63), -99), i((1 << 63) - 1, -2)], {}),
    ("Softmax", [f(2, 3)], {"axis": 0}),
    ("Softplus", [f(3)], {}),
    ("Split", [f(5, 2), i(2, 3)], {}),
    ("Sqrt", [np.abs(f(3))], {}),
    ("Squeeze", [f(1, 3, 1), i(0)], {}),
    ("Squeeze", [f(1, 3, 1)], {}),
    ("Sub", [f(3), f(3)], {}),
    ("Tanh", [f(3)], {}),
    ("Transpose", [f(2, 3, 4)], {"perm": [2, 0, 1]}),
    ("Transpose", [f(2, 3)], {}),
    ("Trilu", [f(3, 4), np.array(1, np.int64)], {"upper": 0}),
    ("Unsqueeze", [f(2, 3), i(-1, 0)], {}),
    ("Where", [b(True, False), f(2), f(2)], {}),
]


def graph_of(op: str, inputs: Sequence[Array | None], attributes: dict[str, Any], opset: int = 18) -> onnx.ModelProto:
    """A graph of one node; its first input is fed, the others are constants."""
    names = ["" if value is None else f"x{n}" for n, value in enumerate(inputs)]
    node = helper.make_node(op, names, ["y", "z"] if op == "Split" else ["y"], **attributes)
    stored = [numpy_helper.from_array(v, n) for v, n in zip(inputs, names, strict=True) if v is not None][1:]
    first = inputs[0]
    assert first is not None
    fed = helper.make_tensor_value_info("x0", helper.np_dtype_to_tensor_dtype(first.dtype), first.shape)
    out = onnx.ValueInfoProto(name="y")
    graph = helper.make_graph([node], "one", [fed], [out], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES, ids=[c[0] for c in CASES])
def test_an_operator_does_as_onnx_runtime_does(op: str, inputs: list[Array | None], attributes: dict[str, Any]) -> None:
    model = graph_of(op, inputs, attributes, opset=20 if op == "Gelu" else 18)
    first = inputs[0]
    assert first is not None
    (wanted,) = Session(model.SerializeToString()).run({"x0": first})
    with torch.no_grad():
        got = GraphModule(model)(torch.from_numpy(first)).numpy()
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    assert np.allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_of_a_newer_opset(approximate: str) -> None:
    x = f(5)
    model = graph_of("Gelu", [x], {"approximate": approximate}, opset=20)
    (wanted,) = Session(model.SerializeToString()).run({"x0": x})
    assert np.allclose(GraphModule(model)(torch.from_numpy(x)).numpy(), wanted, atol=1e-6)


def test_every_operator_is_tried() -> None:
    assert {case[0] for case in CASES} | {"Gelu"} == set(OPERATORS)
