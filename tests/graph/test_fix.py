from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit.errors import ModelError
from edgekit.graph.fix import fix_inputs
from edgekit.graph.names import shorten_values
from edgekit.graph.shapes import dims_of, infer_shapes
from tests.graph.test_normalise import build, if_model, run
from tests.noise import floats


def test_a_fixed_flag_takes_its_branch_and_is_no_input_any_more():
    model, _, other = if_model()
    result = fix_inputs(model, {"flag": False})
    assert [n.op_type for n in result.graph.node] == ["MatMul"]
    assert [i.name for i in result.graph.input] == ["x"]
    x = floats(1, 4)
    np.testing.assert_allclose(run(result, {"x": x})[0], x @ other, rtol=1e-4, atol=1e-5)


def test_fixed_dimensions_are_fixed_everywhere():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Reshape", ["x", "s"], ["y"])]
    model = build(nodes, {"x": ["batch", "time"]}, {"y": ["batch", "time"]})
    result = fix_inputs(model, {"batch": 1, "time": 5})
    assert [dims_of(v) for v in (*result.graph.input, *result.graph.output)] == [(1, 5), (1, 5)]
    assert [n.op_type for n in result.graph.node] == ["Reshape"]  # its shape is known now


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bach": 1}, "did you mean 'batch'"),
        ({"batch": 0}, "whole number of 1 or more"),
        ({"batch": True}, "whole number of 1 or more"),
        ({"x": 3}, "no scalar"),
    ],
)
def test_what_cannot_be_fixed_is_refused(values, message):
    model = build([helper.make_node("Relu", ["x"], ["y"])], {"x": ["batch", 4]}, {"y": ["batch", 4]})
    with pytest.raises(ModelError, match=message):
        fix_inputs(model, values)


def test_a_value_that_its_type_cannot_hold_is_refused():
    model, _, _ = if_model()
    with pytest.raises(ModelError, match="cannot hold"):
        fix_inputs(model, {"flag": 7})


def test_shapes_are_inferred_and_what_only_a_run_tells_is_read_off_it():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("NonZero", ["h"], ["y"])]
    model = build(nodes, {"x": ["batch", 4]}, {"y": None}, {"w": floats(4, 300)})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    shapes = infer_shapes(model)
    assert shapes["h"] == ("batch", 300)
    run_shapes = infer_shapes(model, {"x": np.ones((2, 4), np.float32)})
    assert run_shapes["y"][0] == 2


def test_inference_on_nonsense_says_nothing_and_does_not_crash():
    nodes = [helper.make_node("NoSuch", ["x"], ["h"], domain="nobody"), helper.make_node("Relu", ["h"], ["y"])]
    assert "h" not in infer_shapes(build(nodes, {"x": [2]}, {"y": [2]}))


def test_short_names_change_nothing_but_names():
    model, taken, _ = if_model()
    shorten_values(model)
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == ["x", "flag", "y"]
    x = floats(1, 4)
    got = run(model, {"x": x, "flag": np.array(True)})[0]
    np.testing.assert_allclose(got, x @ taken, rtol=1e-4, atol=1e-5)
