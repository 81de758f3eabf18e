"""Shapes of intermediate values: three ways, tried from the cheapest on, none of which ends in a crash."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from edgekit.errors import EdgekitError
from edgekit.graph.read import proto_bytes
from edgekit.specs import Feeds

Dims = tuple[int | str, ...]
_LIGHT_BYTES = 1 << 12
_EXPOSE_BYTES = 1 << 30


def infer_shapes(model: onnx.ModelProto, feeds: Feeds | None = None, *, cheap: bool = False) -> dict[str, Dims]:
    """Shapes of the values of the main graph, by name; what no way finds is not there.

    Args:
        model: Any model; it is not changed.
        feeds: One sample; with it, what the other ways miss is read off one real run (then a dimension that is dynamic
            has the sample's size).
        cheap: Only ONNX's own inference, with shapes of which it finds but a part.

    Returns:
        One entry a dimension: an int, or a str for a symbolic one ("" if it has no name).
    """
    light = without_weights(model)
    if cheap:
        return _by_onnx(light)
    found = _complete(_by_onnx(light))
    wanted = {o for n in model.graph.node for o in n.output if o}
    if not wanted <= set(found):
        found = {**_complete(_by_onnxruntime(light)), **found}
    if feeds is not None and not wanted <= set(found):
        found = {**_by_running(model, feeds, wanted - set(found)), **found}
    return found


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large initializers are declared only: inference needs their shapes, and copies are small."""
    light = onnx.ModelProto()
    for field in ("ir_version", "producer_name", "domain"):
        setattr(light, field, getattr(model, field))
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    declared = {i.name for i in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _LIGHT_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return light


def _by_onnx(light: onnx.ModelProto) -> dict[str, Dims]:
    try:
        return _shapes_in(onnx.shape_inference.infer_shapes(light, data_prop=True).graph)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        return _shapes_in(light.graph)


def _by_onnxruntime(light: onnx.ModelProto) -> dict[str, Dims]:
    """ONNX Runtime's symbolic inference; it needs sympy and gives up loudly on what it does not know."""
    import contextlib
    import io
    import logging

    try:
        from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
    except ImportError:
        return {}
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return _shapes_in(SymbolicShapeInference.infer_shapes(light, auto_merge=True).graph)
    except Exception:  # it asserts, divides by zero and raises plain Exception on graphs that are valid
        return {}
    finally:
        logging.disable(previous)


def _by_running(model: onnx.ModelProto, feeds: Feeds, names: set[str]) -> dict[str, Dims]:
    """Expose values as outputs and run once."""
    from edgekit.ort.session import Session

    if proto_bytes(model) > _EXPOSE_BYTES:
        return {}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    there = {o.name for o in exposed.graph.output}
    wanted = sorted(names - there)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    try:
        results = Session(exposed.SerializeToString(), threads=1, graph_optimization=False).run(feeds, wanted)
    except EdgekitError:
        return {}
    return {name: tuple(r.shape) for name, r in zip(wanted, results, strict=True) if hasattr(r, "shape")}


def _shapes_in(graph: onnx.GraphProto) -> dict[str, Dims]:
    found: dict[str, Dims] = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            found[value.name] = dims_of(value)
    return found


def dims_of(value: onnx.ValueInfoProto) -> Dims:
    """The declared dimensions of a tensor; -1, which Paddle's exporter writes for dynamic ones, has no name."""
    shape = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param for d in shape)


def _complete(shapes: Mapping[str, Dims]) -> dict[str, Dims]:
    """Only shapes whose dimensions all have a size or a name: the others are for the next way to find."""
    return {name: dims for name, dims in shapes.items() if "" not in dims}
