"""Where a file keeps its weights and what it says about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.zoo.control_flow import put_constants_first
from tests.zoo.convolutions import declare_as_inputs
from tests.zoo.entry import Entry, case, graph_model, inputs, weight

_DENSE = """dense (float[batch, 1, 64] x) => (float[batch, 1, 48] y) {
    a = MatMul(x, w1)
    ab = Add(a, b1)
    ar = Relu(ab)
    b = MatMul(ar, w2)
    y = Add(b, b2)
}"""


def dense(rng: np.random.Generator, **options) -> Entry:  # type: ignore[no-untyped-def]
    """Two layers, 70 kB."""
    return Entry(graph_model(_DENSE, dense_weights(rng), **options), {"x": inputs(rng, 24, 1, 64)})


def dense_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {
        "w1": weight(rng, 64, 160, fan_in=64),
        "b1": weight(rng, 160),
        "w2": weight(rng, 160, 48, fan_in=160),
        "b2": weight(rng, 48),
    }


@case()
def weights_in_constant_nodes(rng: np.random.Generator) -> Entry:
    """No initializer at all."""
    entry = dense(rng)
    weights = {i.name: numpy_helper.to_array(i) for i in entry.model.graph.initializer}
    del entry.model.graph.initializer[:]
    put_constants_first(entry.model.graph, weights)
    return entry


@case()
def external_data(rng: np.random.Generator) -> Entry:
    """Every weight in a file beside the model."""
    return replace(dense(rng), external=True)


@case(unchanged="overrid")
def all_weights_are_inputs(rng: np.random.Generator) -> Entry:
    """IR 8: a caller may override every weight at run time, so none is constant."""
    entry = dense(rng)
    declare_as_inputs(entry.model, dense_weights(rng))
    return entry


@case(least_ratio=1.5)
def one_weight_is_an_input(rng: np.random.Generator) -> Entry:
    """IR 8: one of two weights may be overridden."""
    entry = dense(rng)
    declare_as_inputs(entry.model, {"w2": None})
    return entry


@case()
def stale_and_wrong_shapes(rng: np.random.Generator) -> Entry:
    """Recorded shapes that contradict the graph, and an output declared with a batch that is not its own."""
    entry = dense(rng)
    graph = entry.model.graph
    for name, shape in (("w1", [2, 384]), ("ab", ["batch", 1, 3])):
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 48]))
    return entry


@case()
def dynamic_dimension_of_minus_one(rng: np.random.Generator) -> Entry:
    """The batch declared as -1, as Paddle's exporter writes it."""
    entry = dense(rng)
    for value in (entry.model.graph.input[0], entry.model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    return entry


@case()
def the_same_weights_twice(rng: np.random.Generator) -> Entry:
    """Two initializers of equal bytes, one stored raw and one as float_data, the second half of them unused."""
    text = """twins (float[batch, 1, 96] x) => (float[batch, 1, 96] y) {
        a = MatMul(x, w1) b = Tanh(a) c = MatMul(b, w2) d = Tanh(c) y = MatMul(d, w3)
    }"""
    same = weight(rng, 96, 96, fan_in=96)
    model = graph_model(text, {"w1": same, "w3": weight(rng, 96, 96, fan_in=96), "unused": inputs(rng, 50, 50)})
    model.graph.initializer.append(helper.make_tensor("w2", TensorProto.FLOAT, [96, 96], same.ravel().tolist()))
    return Entry(model, {"x": inputs(rng, 24, 1, 96)})


@case(least_ratio=2.0)
def sparse_weights(rng: np.random.Generator) -> Entry:
    """A sparse initializer beside a dense one."""
    entry = dense(rng)
    values = numpy_helper.from_array(rng.standard_normal(200).astype(np.float32), "w2")
    chosen = np.sort(rng.choice(160 * 48, 200, replace=False)).astype(np.int64)
    kept = [i for i in entry.model.graph.initializer if i.name != "w2"]
    del entry.model.graph.initializer[:]
    entry.model.graph.initializer.extend(kept)
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(chosen, "w2_at"), [160, 48])
    entry.model.graph.sparse_initializer.append(sparse)
    return entry


@case(least_ratio=3.2)
def no_inputs(rng: np.random.Generator) -> Entry:
    """A graph of constants alone, too large to be folded into its result."""
    text = """constant (float[2, 64] start) => (float[1, 1, 4] y) {
        x = RandomNormal<shape=[4, 64], seed=1.0>()
        a = MatMul(start, w1)
        b = MatMul(a, w2)
        c = ReduceSum<keepdims=1>(b)
        y = Reshape(b, shape)
    }""".replace("(float[2, 64] start)", "()")
    weights = {
        "start": inputs(rng, 2, 64),
        "w1": weight(rng, 64, 128, fan_in=64),
        "w2": weight(rng, 128, 2, fan_in=128),
        "shape": np.array([1, 1, 4]),
    }
    return Entry(graph_model(text, weights))


@case(unchanged="float weights|small|worth")
def too_small_to_gain(rng: np.random.Generator) -> Entry:
    """Seventy bytes of weights."""
    text = "tiny (float[batch, 1, 4] x) => (float[batch, 1, 4] y) { a = MatMul(x, w) y = Add(a, b) }"
    return Entry(graph_model(text, {"w": weight(rng, 4, 4), "b": weight(rng, 4)}), {"x": inputs(rng, 8, 1, 4)})


def broken(entry: Entry, name: str, value: float) -> onnx.ModelProto:
    """The model with one value of one weight replaced."""
    model = onnx.ModelProto()
    model.CopyFrom(entry.model)
    tensor = next(i for i in model.graph.initializer if i.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[7] = value
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model
