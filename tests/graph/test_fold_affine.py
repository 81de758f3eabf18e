"""Scales, shifts and hard sigmoids: what normalise makes of them computes the same in fewer nodes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit.graph.normalise import normalise
from tests.graph.test_normalise import build, ops, run
from tests.noise import floats

_SIX = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6), "sixth": np.float32(1 / 6)}


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def check(nodes, weights, expected, opset=17, shape=(2, 4, 7, 7)):
    """The model and its normal form agree, and the form has these operators."""
    model = build(nodes, {"x": list(shape)}, {"y": None}, weights, opset=opset)
    result = normalise(model)
    assert ops(result.graph) == expected
    feeds = {"x": floats(*shape) * 3}
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-4)
    return result


@pytest.mark.parametrize("shape", [(), (1,), (1, 6, 1, 1), (6, 1, 1)])
@pytest.mark.parametrize("op", ["Mul", "Div", "Add", "Sub"])
def test_what_follows_a_convolution_goes_into_it(op: str, shape: tuple[int, ...]) -> None:
    nodes = [node("Conv", "x w", "c"), node(op, "c k", "y")]
    check(nodes, {"w": floats(6, 4, 3, 3), "k": np.abs(floats(*shape)) + np.float32(0.5)}, ["Conv"])


def test_a_chain_goes_into_one_convolution_whose_weight_others_keep() -> None:
    nodes = [
        node("Conv", "x w b", "c"),
        node("Mul", "k c", "m"),
        node("Add", "t m", "a"),
        node("Conv", "x w b", "d"),
        node("Add", "a d", "y"),
    ]
    weights = {"w": floats(6, 4, 3, 3), "b": floats(6), "k": floats(1, 6, 1, 1), "t": np.float32(0.25)}
    result = check(nodes, weights, ["Conv", "Conv", "Add"])
    assert {i.name for i in result.graph.initializer} == {"w", "b", "w_folded", "w_bias"}


@pytest.mark.parametrize(
    ("op", "constant", "shape"),
    [
        ("Add", (1, 6), (2, 6, 4, 6)),  # along the width
        ("Mul", (6, 7, 7), (2, 6, 7, 7)),
        ("Mul", (3, 1, 6, 1, 1), (2, 6, 7, 7)),  # makes it larger
    ],
)
def test_constants_that_are_not_by_channel_stay(op: str, constant: tuple[int, ...], shape: tuple[int, ...]) -> None:
    nodes = [node("Conv", "x w", "c"), node(op, "c k", "y")]
    check(nodes, {"w": floats(6, 6, 1, 1), "k": floats(*constant)}, ["Conv", op], shape=shape)


def test_a_result_that_is_an_output_or_read_twice_stays() -> None:
    nodes = [node("Conv", "x w", "c"), node("Mul", "c k", "m"), node("Add", "m c", "y")]
    check(nodes, {"w": floats(6, 4, 1, 1), "k": np.float32(2)}, ["Conv", "Mul", "Add"])
    model = build(nodes[:2], {"x": [1, 4, 5, 5]}, {"m": None, "c": None}, {"w": floats(6, 4, 1, 1), "k": np.float32(2)})
    assert ops(normalise(model).graph) == ["Conv", "Mul"]


def test_in_front_a_factor_passes_padding_and_a_shift_does_not() -> None:
    weights = {"w": floats(6, 4, 3, 3), "k": np.float32(1.5), "t": np.float32(-0.5)}
    scaled = [node("Relu", "x", "r"), node("Mul", "r k", "m")]
    check([*scaled, node("Conv", "m w", "y", pads=[1] * 4)], weights, ["Relu", "Conv"])
    shifted = [*scaled, node("Add", "m t", "a")]
    check([*shifted, node("Conv", "a w", "y")], weights, ["Relu", "Conv"])
    check([*shifted, node("Conv", "a w", "y", pads=[1] * 4)], weights, ["Relu", "Add", "Conv"])
    check([*shifted, node("Conv", "a w", "y", auto_pad="SAME_UPPER")], weights, ["Relu", "Add", "Conv"])
    upward = [*shifted, node("ConvTranspose", "a w4", "y")]
    check(upward, {**weights, "w4": floats(4, 2, 3, 3)}, ["Relu", "Add", "ConvTranspose"])


def test_a_factor_goes_into_every_reader_or_into_none() -> None:
    weights = {"w": floats(6, 4, 1, 1), "v": floats(6, 4, 1, 1), "k": np.float32(1.5)}
    scaled = [node("Relu", "x", "r"), node("Mul", "r k", "m"), node("Conv", "m w", "a")]
    check([*scaled, node("Conv", "m v", "b"), node("Add", "a b", "y")], weights, ["Relu", "Conv", "Conv", "Add"])
    kept = ["Relu", "Mul", "Conv", "GlobalAveragePool", "GlobalAveragePool", "Concat"]
    pools = [node("GlobalAveragePool", "m", "b"), node("GlobalAveragePool", "a", "p")]
    check([*scaled, *reversed(pools), node("Concat", "b p", "y", axis=1)], weights, kept)


def test_what_would_overflow_stays() -> None:
    weights = {"w": floats(6, 4, 1, 1) * 1e30, "k": np.float32(1e30)}
    model = build([node("Conv", "x w", "c"), node("Mul", "c k", "y")], {"x": [1, 4, 5, 5]}, {"y": None}, weights)
    assert ops(normalise(model).graph) == ["Conv", "Mul"]
    weights = {"w": floats(6, 4, 1, 1), "k": np.float32(0)}
    model = build([node("Conv", "x w", "c"), node("Div", "c k", "y")], {"x": [1, 4, 5, 5]}, {"y": None}, weights)
    assert ops(normalise(model).graph) == ["Conv", "Div"]


@pytest.mark.parametrize(
    "end",
    [
        [node("Mul", "x clip", "m"), node("Div", "m six", "y")],
        [node("Mul", "clip x", "m"), node("Mul", "sixth m", "y")],
        [node("Div", "clip six", "h"), node("Mul", "x h", "y")],
        [node("Mul", "clip sixth", "h"), node("Mul", "x h", "y")],
    ],
)
def test_a_hard_swish_spelled_out_is_two_nodes(end) -> None:
    start = [node("Add", "x three", "a"), node("Clip", "a zero six", "clip")]
    check([*start, *end], _SIX, ["HardSigmoid", "Mul"])


def test_a_hard_sigmoid_of_an_old_opset_and_one_behind_a_convolution() -> None:
    old = [node("Add", "three x", "a"), node("Clip", "a", "clip", min=0.0, max=6.0), node("Div", "clip six", "y")]
    check(old, _SIX, ["HardSigmoid"], opset=7)
    gate = [node("Conv", "x w", "c"), node("Add", "c three", "a"), node("Clip", "a zero six", "clip")]
    check([*gate, node("Div", "clip six", "y")], {**_SIX, "w": floats(6, 4, 1, 1)}, ["Conv", "HardSigmoid"])


def test_hard_swish_itself_is_two_nodes() -> None:
    check([node("HardSwish", "x", "y")], {}, ["HardSigmoid", "Mul"])


def test_what_only_looks_like_a_hard_sigmoid_stays() -> None:
    start = [node("Add", "x three", "a"), node("Clip", "a zero six", "clip")]
    check([*start, node("Div", "clip three", "y")], _SIX, ["Add", "Clip", "Div"])
    check([*start, node("Div", "six clip", "q"), node("Clip", "q zero six", "y")], _SIX, ["Add", "Clip", "Div", "Clip"])
    check([*start, node("Div", "clip six", "d"), node("Add", "d clip", "y")], _SIX, ["Add", "Clip", "Div", "Add"])
    model = build([*start, node("Div", "clip six", "y")], {"x": [4]}, {"y": None, "a": None}, _SIX)
    assert ops(normalise(model).graph) == ["Add", "Clip", "Div"]


def test_a_bound_that_the_caller_may_set_is_no_constant() -> None:
    nodes = [node("Add", "x three", "a"), node("Clip", "a zero top", "clip"), node("Div", "clip six", "y")]
    model = build(nodes, {"x": [4]}, {"y": None}, {**_SIX, "top": np.float32(6)})
    model.graph.input.append(helper.make_tensor_value_info("top", TensorProto.FLOAT, []))
    assert ops(normalise(model).graph) == ["Add", "Clip", "Div"]
