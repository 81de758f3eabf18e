"""torch -> ONNX: the dynamo exporter, pinned versions, metadata, and a parity check before the file is kept."""

from __future__ import annotations

import inspect
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import __version__
from edgekit.errors import ExportError, brief
from edgekit.export.onnx_onnx import convert_opset, parse_fix
from edgekit.export.parity import TOLERANCE, Case, Parity, check_parity, example_feeds, symbols
from edgekit.files import replacing
from edgekit.graph.constants import fold_constants
from edgekit.graph.fix import fix_inputs
from edgekit.graph.scopes import opset_of
from edgekit.graph.write import accept, save
from edgekit.ort import ceiling_of, installed_ceiling
from edgekit.specs import TensorSpec
from edgekit.tasks import TASKS
from edgekit.training.checkpoint import ModelCard, TrainedModel

if TYPE_CHECKING:
    import onnx

DEFAULT_OPSET = 18
_GRAPH = "graph"
# Of a model with int8 activations: where a sum falls between two integers, torch and the runtime may round it to
# either, and what is behind follows.
_ROUNDED = 0.05
_EXAMPLE_BATCH = 2
_EXAMPLE_LENGTH = 5  # and one more for each further open dimension, so that none is taken for another


@dataclass(frozen=True)
class ExportResult:
    """An exported file and how it was made.

    Attributes:
        path: The file.
        opset: Of the default domain.
        ir_version: Of the file.
        exporter: "dynamo", "torchscript" where the dynamo exporter failed, or "graph" for what was trained as a graph.
        parity: Against torch.
        note: Why the older exporter was used, or "".
    """

    path: Path
    opset: int
    ir_version: int
    exporter: str
    parity: Parity
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {**asdict(self), "path": str(self.path)}


def export_onnx(
    model: TrainedModel,
    out: Path,
    *,
    opset: int | None = None,
    target_ort: str | None = None,
    fix: Sequence[str] = (),
) -> ExportResult:
    """Export a model; every symbolic dimension of its inputs stays open.

    Args:
        model: In evaluation mode.
        out: The file to write.
        opset: Of the default domain; by default 18, or what `target_ort` loads if that is less.
        target_ort: Version of the ONNX Runtime that must load the file, such as "1.16"; the installed one by default.
        fix: `name=value` for dimensions to settle, such as "batch=1".

    Raises:
        ExportError: if the opset is beyond the target, neither exporter works, or the file differs from torch.
    """
    ceiling = ceiling_of(target_ort) if target_ort else installed_ceiling()
    chosen = opset if opset is not None else min(DEFAULT_OPSET, ceiling.opset)
    if not 7 <= chosen <= ceiling.opset:
        raise ExportError(
            f"opset {chosen} cannot be had: ONNX Runtime {target_ort or 'as installed'} loads 7 to {ceiling.opset}"
        )
    proto, exporter, reason = _export(model, chosen)
    fold_constants(proto)  # exporters leave what is made of large weights alone to be computed in every session
    proto.ir_version = min(proto.ir_version, ceiling.ir_version)
    annotate(proto, _facts(model.card))
    if fix:
        proto = fix_inputs(proto, parse_fix(fix))
    with replacing(out) as temporary:
        save(proto, temporary)
        accept(temporary)
        parity = check_parity(model, temporary, _ROUNDED if exporter == _GRAPH else TOLERANCE)
    return ExportResult(out, chosen, proto.ir_version, exporter, parity, reason)


def _export(model: TrainedModel, opset: int) -> tuple[onnx.ModelProto, str, str]:
    """Try the dynamo exporter, then the older one; which one it was, and why, is part of the result."""
    if model.card.architecture.get(_GRAPH):
        return _frozen(model, opset), _GRAPH, ""
    try:
        return _export_dynamo(model, opset), "dynamo", ""
    except Exception as error:  # exporters fail in their own ways, with classes of their own
        reason = f"the dynamo exporter failed: {type(error).__name__}: {brief(error, 200)}"
    try:
        return _export_torchscript(model, opset), "torchscript", reason
    except Exception as error:
        raise ExportError(
            f"family {model.card.family!r} does not export at opset {opset}; {reason}; "
            f"the older exporter: {brief(error, 200)}"
        ) from error


def _export_dynamo(model: TrainedModel, opset: int) -> onnx.ModelProto:
    import torch

    with silence():
        program = torch.onnx.export(
            model.module,
            _example(model),
            input_names=[s.name for s in model.inputs],
            output_names=list(output_names(model)),
            dynamic_shapes=_shapes(model),
            opset_version=opset,
            dynamo=True,
        )
    if program is None:
        raise ExportError("torch gave no program")
    proto = program.model_proto
    if opset_of(proto) != opset:
        raise ExportError(f"it wrote opset {opset_of(proto)} where {opset} was asked for")
    return proto


def _frozen(model: TrainedModel, opset: int) -> onnx.ModelProto:
    """What was trained as a graph: the same graph, with integers in the place of rounded weights."""
    from edgekit.graph.fake import freeze

    module: Any = model.module
    return convert_opset(freeze(module.to_proto()), opset)


def _export_torchscript(model: TrainedModel, opset: int) -> onnx.ModelProto:
    import onnx
    import torch

    buffer, outputs = io.BytesIO(), list(output_names(model))
    with silence():
        torch.onnx.export(
            model.module,
            _example(model),
            buffer,  # type: ignore[arg-type]
            input_names=[s.name for s in model.inputs],
            output_names=outputs,
            dynamic_axes={**{s.name: _open_dims(s) for s in model.inputs}, **{name: {0: "batch"} for name in outputs}},
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_model_from_string(buffer.getvalue())


def output_names(model: TrainedModel) -> tuple[str, ...]:
    """What the graph's outputs are called: as the card says, else as the task says."""
    return model.card.outputs or TASKS[model.card.task].outputs


def _shapes(model: TrainedModel) -> tuple[Any, ...]:
    """Open dimensions of each argument; what goes into `*arguments` of the module is one of them, a tuple."""
    dims = [_open_dims(s) for s in model.inputs]
    parameters = list(inspect.signature(model.module.forward).parameters.values())
    gathered = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), len(dims))
    return (*dims[:gathered], tuple(dims[gathered:])) if gathered < len(dims) else tuple(dims)


def _open_dims(spec: TensorSpec) -> dict[int, str]:
    """Axis -> name of each symbolic dimension."""
    return {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}


def _example(model: TrainedModel) -> tuple[Any, ...]:
    import torch

    sizes = {name: _EXAMPLE_LENGTH + index for index, name in enumerate(symbols(model.inputs))}
    case = Case(_EXAMPLE_BATCH, _EXAMPLE_LENGTH, sizes, padded=False)
    return tuple(torch.from_numpy(v) for v in example_feeds(model, case).values())


def _facts(card: ModelCard) -> dict[str, str]:
    """What the file says of itself; "" is left out."""
    return {
        "edgekit.family": card.family,
        "edgekit.size": card.size,
        "edgekit.part": card.part,
        "edgekit.task": card.task,
        "edgekit.data": card.data,
        "edgekit.classes": json.dumps(card.classes) if card.classes else "",
        "edgekit.preprocessing": json.dumps(card.preprocessing) if card.preprocessing else "",
        "edgekit.sparsity": str(card.edits.get("sparsity", "")),
        "edgekit.longest": str(card.limits.get("length", "")),
        "edgekit.tokenizer": str(card.preprocessing.get("tokenizer_sha256", "")),
        "edgekit.vocabulary": str(card.preprocessing.get("vocabulary", "")),
    }


def annotate(proto: onnx.ModelProto, facts: Mapping[str, str]) -> None:
    """Say in the file what it is; strip what the exporter says about its own source files.

    Args:
        proto: Changed in place.
        facts: Metadata; empty values are left out.
    """
    proto.producer_name, proto.producer_version = "edgekit", __version__
    said = {"edgekit.version": __version__, **facts}
    del proto.metadata_props[:]
    for key, value in ((k, v) for k, v in said.items() if v):
        proto.metadata_props.add(key=key, value=value)
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value_info in (*proto.graph.input, *proto.graph.output):
        del value_info.metadata_props[:]
    for weight in proto.graph.initializer:
        del weight.metadata_props[:]


@contextmanager
def silence() -> Iterator[None]:
    """The exporters print on stdout and warn about themselves; stdout is ours."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
