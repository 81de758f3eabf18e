"""Raising a model's opset: by the number alone where no operator changed, else through ONNX's version converter."""

from __future__ import annotations

import onnx
from onnx import version_converter

from edgekit.errors import CompressError, EdgekitError, brief
from edgekit.graph.read import every_node
from edgekit.graph.scopes import opset_of, set_opset


def raise_opset(model: onnx.ModelProto, minimum: int) -> onnx.ModelProto:
    """A model of at least this opset; the model itself if it is there already.

    Raises:
        CompressError: if it cannot be raised, with the reason.
    """
    current = opset_of(model)
    if current >= minimum:
        return model
    if _means_the_same(model, current, minimum):
        raised = onnx.ModelProto()
        raised.CopyFrom(model)
        set_opset(raised, minimum)
        return raised
    try:
        raised = version_converter.convert_version(model, minimum)
        _check_loads(raised)
    except (EdgekitError, RuntimeError, ValueError, version_converter.ConvertError) as error:
        reason = brief(error, 200)
        raise CompressError(
            f"this method needs opset {minimum}, the model has {current} and does not convert ({reason}); export it "
            f"with opset {minimum} or newer"
        ) from error
    _keep_what_the_converter_drops(model, raised)
    return raised


def _means_the_same(model: onnx.ModelProto, current: int, minimum: int) -> bool:
    """Whether every operator used is the same in both versions."""
    used = {n.op_type for n in every_node(model) if n.domain in ("", "ai.onnx")}
    return not model.functions and all(_since(op, current) == _since(op, minimum) for op in used)


def _since(op_type: str, opset: int) -> int | None:
    try:
        return int(onnx.defs.get_schema(op_type, opset, "").since_version)
    except onnx.defs.SchemaError:
        return None


def _check_loads(model: onnx.ModelProto) -> None:
    from edgekit.ort.session import Session

    onnx.checker.check_model(model)
    Session(model.SerializeToString(), threads=1, graph_optimization=False)


def _keep_what_the_converter_drops(model: onnx.ModelProto, raised: onnx.ModelProto) -> None:
    del raised.metadata_props[:]
    raised.metadata_props.extend(model.metadata_props)
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(raised, field, getattr(model, field))
    for part, wanted in ((raised.graph.input, model.graph.input), (raised.graph.output, model.graph.output)):
        del part[:]
        part.extend(wanted)
