from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgekit.compress.quantize.placement import Wiring, gates, place
from edgekit.compress.quantize.static import prepare
from tests.compress.quantize.nets import Net, mobile_block, normal

RNG = np.random.default_rng(0)


def transformer_block() -> onnx.ModelProto:
    """Two projections with a masked softmax between, a residual sum and a normalisation."""
    net = Net(x=("batch", "seq", 32), mask=("batch", 1, "seq"))
    q, k, v = (net.add("MatMul", "x", normal(RNG, 32, 32)) for _ in range(3))
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 1]))
    weights = net.add("Softmax", net.add("Add", scores, "mask"), axis=-1)
    mixed = net.add("Add", net.add("MatMul", net.add("MatMul", weights, v), normal(RNG, 32, 32)), normal(RNG, 32))
    total = net.add("Add", mixed, "x")
    return net.model(net.add("LayerNormalization", total, np.ones(32, "f"), np.zeros(32, "f")), rank=3)


def test_a_convolutional_net_runs_in_int8_from_end_to_end() -> None:
    placement = place(prepare(mobile_block()))
    assert placement.nodes == {"conv0", "conv2", "conv4", "conv6", "add7", "reducemean8", "reshape9", "gemm10"}
    assert placement.clipped == {"relu1": "conv0", "relu3": "conv2", "relu5": "conv4"}
    assert placement.tensors["reshape9"] == "reducemean8"
    assert "gemm10" not in placement.tensors
    assert placement.left == ()


def test_of_a_transformer_only_products_with_weights_run_in_int8() -> None:
    placement = place(transformer_block())
    assert {n.split("_")[0] for n in placement.nodes} == {"matmul0", "matmul1", "matmul2", "matmul8"}
    assert set(placement.tensors) == {"x", "matmul7"}
    assert {n.reason for n in placement.left} == {"its second input is no float32 constant"}


def test_excluded_nodes_and_what_they_feed_stay_in_float() -> None:
    model = prepare(mobile_block())
    placement = place(model, {"conv6"})
    assert "conv6" not in placement.nodes
    assert [(n.name, n.reason) for n in placement.left] == [("conv6", "asked for")]
    assert "add7" not in placement.nodes  # one of its inputs is float now
    assert "gemm10" in placement.nodes


def test_small_convolutions_at_the_entry_stay_in_float_unless_nothing_follows() -> None:
    net = Net(image=("batch", 1, 8, 8))
    stem = net.add("Relu", net.add("Conv", "image", normal(RNG, 16, 1, 3, 3)))
    model = net.model(net.add("Conv", stem, normal(RNG, 64, 16, 3, 3)), rank=4)
    assert place(model).nodes == {"conv2"}
    assert place(model, nvidia=True).nodes == {"conv0", "conv2"}
    assert "few weights" in place(model).left[0].reason
    alone = Net(image=("batch", 1, 8, 8))
    assert place(alone.model(alone.add("Conv", "image", normal(RNG, 16, 1, 3, 3)), rank=4)).nodes == {"conv0"}


def test_what_has_no_int8_kernel_says_why() -> None:
    net = Net(x=("batch", 8), w=(8, 4))
    a = net.add("MatMul", "x", "w")
    b = net.add("Gemm", a, normal(RNG, 4, 4), alpha=0.5)
    placement = place(net.model(b))
    assert placement.nodes == frozenset()
    assert [n.reason for n in placement.left] == [
        "its second input is no float32 constant",
        "Gemm with alpha, beta or transA has no int8 kernel",
    ]


def test_constants_do_not_join() -> None:
    net = Net(x=("batch", 16))
    first = net.add("MatMul", "x", normal(RNG, 16, 16))
    shifted = net.add("Relu", net.add("Add", first, normal(RNG, 16)))
    placement = place(net.model(net.add("MatMul", shifted, normal(RNG, 16, 16))))
    assert placement.nodes == {"matmul0", "matmul3"}
    assert set(placement.tensors) == {"x", "relu2"}


def hard_swish_net(shift: float = -0.5) -> onnx.ModelProto:
    """Conv, hard swish, a shift that padding keeps, Conv."""
    net = Net(x=("batch", 32, 8, 8))
    x = net.add("Conv", "x", normal(RNG, 32, 32, 1, 1), normal(RNG, 32))
    product = net.add("Mul", x, net.add("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    shifted = net.add("Add", product, np.float32(shift))
    return net.model(net.add("Conv", shifted, normal(RNG, 32, 32, 3, 3), pads=[1] * 4), rank=4)


def test_a_hard_swish_and_its_shift_run_in_int8_but_not_for_nvidia() -> None:
    placement = place(hard_swish_net())
    assert placement.nodes == {"conv0", "hardsigmoid1", "mul2", "conv4"}
    assert placement.shifted == {"add3": "mul2"}
    assert set(placement.tensors) == {"x", "conv0", "hardsigmoid1", "add3", "conv4"}
    other = place(hard_swish_net(), nvidia=True)
    assert other.nodes == {"conv0", "conv4"}
    assert other.shifted == {}


def test_below_its_gate_a_hard_swish_is_zero() -> None:
    assert gates(Wiring(hard_swish_net())) == {"conv0": pytest.approx(-3.0, rel=1e-6)}
    net = Net(x=("batch", 32, 8, 8))
    x = net.add("Conv", "x", normal(RNG, 32, 32, 1, 1))
    gate = net.add("HardSigmoid", x)
    both = net.model(net.add("Add", net.add("Mul", x, gate), x), rank=4)
    assert gates(Wiring(both)) == {}
