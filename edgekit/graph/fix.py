"""Dimensions and inputs that a model leaves open, settled: `--fix batch=1`, `--fix flag=true`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.errors import ModelError, unknown
from edgekit.graph.normalise import normalise
from edgekit.graph.read import every_graph
from edgekit.graph.shapes import dims_of

Value = bool | int | float


def fix_inputs(model: onnx.ModelProto, values: Mapping[str, Value]) -> onnx.ModelProto:
    """A new, normalised model with some of its dimensions and inputs settled.

    An input that is settled becomes a constant; branches that then are known are taken.

    Args:
        model: Any valid model; it is not changed.
        values: By name of a symbolic dimension, by "input:axis" for a dimension without a name, or by name of an input
            of one element.

    Raises:
        ModelError: for a name that the model does not have, or a value that does not fit.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for name, value in values.items():
        if name in {i.name for i in result.graph.input}:
            _fix_input(result, name, value)
        else:
            _fix_dim(result, name, value)
    return normalise(result)


def _fix_input(model: onnx.ModelProto, name: str, value: Value) -> None:
    index = next(i for i, v in enumerate(model.graph.input) if v.name == name)
    tensor = model.graph.input[index].type.tensor_type
    dims = dims_of(model.graph.input[index])
    if not tensor.elem_type or any(d not in (1, "") and not isinstance(d, str) for d in dims):
        raise ModelError(f"input {name!r} of shape {list(dims)} is no scalar; only inputs of one element can be fixed")
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    array = np.full((1,) * len(dims), value).astype(dtype)
    if array.size and float(array.ravel()[0]) != float(value):
        raise ModelError(f"input {name!r} is {dtype} and cannot hold {value!r}; give a value that it holds exactly")
    del model.graph.input[index]
    for i in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[i].name == name:
            del model.graph.initializer[i]
    model.graph.initializer.append(numpy_helper.from_array(array, name))


def _fix_dim(model: onnx.ModelProto, name: str, value: Value) -> None:
    found = [d for d, key in _open_dims(model) if key == name]
    if not found:
        known = {key for _, key in _open_dims(model)} | {i.name for i in model.graph.input}
        raise ModelError(unknown("dimension or input", name, known))
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ModelError(f"dimension {name!r} cannot be {value!r}; give a whole number of 1 or more")
    for dim in found:
        dim.dim_value = int(value)


def _open_dims(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorShapeProto.Dimension, str]]:
    """Every symbolic dimension of every graph with its name; "input:axis" where it has none."""
    for graph in every_graph(model):
        for value in [*graph.input, *graph.output, *graph.value_info]:
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if not dim.HasField("dim_value"):
                    yield dim, dim.dim_param or f"{value.name}:{axis}"
