"""Rows times a weight are what the node gives, whatever the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.compress.prune.graph.ends import End, matrices_of, weight_of
from edgekit.compress.prune.graph.wiring import Wires
from tests.compress.quantize.nets import Net, normal, run

RNG = np.random.default_rng(0)
CONVS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((6, 4, 3, 3), {"strides": [2, 1], "dilations": [1, 2]}),
    ((6, 2, 3, 2), {"group": 2, "pads": [0, 1, 2, 0]}),
    ((8, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    ((6, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((6, 4, 4, 4), {"auto_pad": "SAME_LOWER"}),
]


def check(net: Net, node: onnx.NodeProto, weight: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> None:
    (wanted,) = run(net.model(node.output[0], rank=x.ndim if node.op_type != "Conv" else 4), {"x": x})
    end = End(node, weight, "x", np.arange(4))
    places = end.places(x, 5, np.random.default_rng(1))
    rows, groups = end.rows(x, places), len(end.matrices)
    assert rows.shape == (groups, len(x) * len(places), end.matrices.shape[2])
    np.testing.assert_allclose(rows @ end.matrices.transpose(0, 2, 1), end.outputs(wanted, places, groups), atol=1e-5)
    np.testing.assert_array_equal(weight_of(node, matrices_of(node, weight), weight.shape), weight)


@pytest.mark.parametrize(("shape", "attributes"), CONVS)
def test_convolutions(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    net, weight = Net(x=("batch", 4, 9, 8)), normal(RNG, *shape)
    net.add("Conv", "x", weight, **attributes)
    check(net, net.nodes[0], weight, RNG.standard_normal((3, 4, 9, 8)).astype(np.float32))


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    net, weight = Net(x=("batch", 4)), normal(RNG, *((5, 4) if transposed else (4, 5)))
    net.add("Gemm", "x", weight, transB=transposed)
    check(net, net.nodes[0], weight, RNG.standard_normal((7, 4)).astype(np.float32))


@pytest.mark.parametrize("shape", [(7, 4), (3, 6, 4), (2, 3, 4, 4)])
def test_matmul(shape: tuple[int, ...]) -> None:
    net, weight = Net(x=("batch", *shape[1:])), normal(RNG, 4, 5)
    net.add("MatMul", "x", weight)
    check(net, net.nodes[0], weight, RNG.standard_normal(shape).astype(np.float32))


def conv(net: Net) -> str:
    return net.add("Conv", "x", normal(RNG, 6, 4, 1, 1))


def gemm(net: Net) -> str:
    return net.add("Gemm", net.add("Flatten", "x"), normal(RNG, 4, 6), normal(RNG, 6))


def matmul(net: Net) -> str:
    return net.add("Add", net.add("MatMul", net.add("Flatten", "x"), normal(RNG, 4, 6)), normal(RNG, 1, 6))


@pytest.mark.parametrize("build", [conv, gemm, matmul])
def test_a_layer_gets_another_weight_and_bias(build: Callable[[Net], str]) -> None:
    net = Net(x=("batch", 4, 1, 1))
    model = net.model(build(net), rank=4 if build is conv else 2)
    wires = Wires(model)
    node = next(n for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul"))
    assert wires.may_change(node)
    wires.store(node, np.zeros_like(wires.weight(node)), np.arange(6.0))
    onnx.checker.check_model(model, full_check=True)
    (found,) = run(model, {"x": np.ones((2, 4, 1, 1), np.float32)})
    np.testing.assert_array_equal(found.reshape(2, 6), [np.arange(6)] * 2)
    assert len(model.graph.initializer) == 2, "what was there before is gone"
    assert Wires(model).bias(node).tolist() == list(range(6))


def test_a_product_that_adds_more_than_a_bias_is_left_alone() -> None:
    net = Net(x=("batch", 4))
    model = net.model(net.add("Gemm", "x", normal(RNG, 4, 6), normal(RNG, 1, 6), alpha=0.5))
    assert not Wires(model).may_change(model.graph.node[0])
