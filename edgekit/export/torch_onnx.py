"""torch -> ONNX: the dynamo exporter, pinned versions, metadata, and a parity check before the file is kept."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import __version__
from edgekit.errors import ExportError
from edgekit.export.onnx_onnx import parse_fix
from edgekit.files import replacing
from edgekit.graph.feeds import generate_feeds
from edgekit.graph.fix import fix_inputs
from edgekit.graph.scopes import opset_of
from edgekit.graph.write import accept, save
from edgekit.ort import Session, ceiling_of, installed_ceiling
from edgekit.specs import Array
from edgekit.tasks import TASKS
from edgekit.training.checkpoint import ModelCard, TrainedModel

if TYPE_CHECKING:
    import onnx

DEFAULT_OPSET = 18
BATCHES = (1, 2, 7)
TOLERANCE = 1e-4
EXAMPLE_BATCH = 2


@dataclass(frozen=True)
class Parity:
    """The largest differences between torch and ONNX Runtime, over batches of 1, 2 and 7.

    Attributes:
        max_abs: Largest absolute difference.
        max_rel: Largest difference relative to the largest absolute output of torch.
        batches: The batch sizes that were run.
    """

    max_abs: float
    max_rel: float
    batches: tuple[int, ...] = BATCHES


@dataclass(frozen=True)
class ExportResult:
    """An exported file and how it was made.

    Attributes:
        path: The file.
        opset: Of the default domain.
        ir_version: Of the file.
        exporter: "dynamo", or "torchscript" where the dynamo exporter failed.
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
    """Export a model with a dynamic batch.

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
    _require_batch(proto, model.card.family)
    proto.ir_version = min(proto.ir_version, ceiling.ir_version)
    _annotate(proto, model.card)
    if fix:
        proto = fix_inputs(proto, parse_fix(fix))
    with replacing(out) as temporary:
        save(proto, temporary)
        accept(temporary)
        parity = check_parity(model, temporary)
    return ExportResult(out, chosen, proto.ir_version, exporter, parity, reason)


def check_parity(model: TrainedModel, path: Path, tolerance: float = TOLERANCE) -> Parity:
    """Run torch and ONNX Runtime on the same random inputs at batches of 1, 2 and 7, or the one that is fixed.

    Raises:
        ExportError: if the largest difference is above `tolerance` times the largest absolute output (at least 1).
    """
    session = Session(path)
    fixed = session.inputs[0].shape[0]
    batches = (fixed,) if isinstance(fixed, int) else BATCHES
    max_abs, largest = 0.0, 0.0
    for batch in batches:
        feeds = example_feeds(model, batch)
        for ours, theirs in zip(model.run(feeds), session.run(feeds), strict=True):
            if ours.shape != theirs.shape:
                raise ExportError(f"the export gives shape {theirs.shape} at batch {batch}, torch gives {ours.shape}")
            max_abs = max(max_abs, _difference(ours, theirs))
            largest = max(largest, float(np.abs(ours).max(initial=0.0)))
    parity = Parity(max_abs, max_abs / largest if largest else 0.0, batches)
    if not max_abs <= tolerance * max(1.0, largest):
        raise ExportError(
            f"the exported model differs from torch by {max_abs:.3g} (relative {parity.max_rel:.3g}) at batches "
            f"{', '.join(map(str, batches))}; at most {tolerance:.0e} is allowed"
        )
    return parity


def _difference(ours: Array, theirs: Array) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0))


def _export(model: TrainedModel, opset: int) -> tuple[onnx.ModelProto, str, str]:
    """Try the dynamo exporter, then the older one; which one it was, and why, is part of the result."""
    try:
        return _export_dynamo(model, opset), "dynamo", ""
    except Exception as error:  # exporters fail in their own ways, with classes of their own
        reason = f"the dynamo exporter failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    try:
        return _export_torchscript(model, opset), "torchscript", reason
    except Exception as error:
        raise ExportError(
            f"family {model.card.family!r} does not export at opset {opset}; {reason}; "
            f"the older exporter: {' '.join(str(error).split())[:200]}"
        ) from error


def _require_batch(proto: onnx.ModelProto, family: str) -> None:
    """Refuse a graph into which the exporter wrote the example's batch without a word."""
    for value in proto.graph.input:
        if value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            raise ExportError(
                f"{family} works at a batch of {EXAMPLE_BATCH} only: its forward holds a batch size; take it from the "
                "input instead, as in x.reshape(len(x), -1)"
            )


def _export_dynamo(model: TrainedModel, opset: int) -> onnx.ModelProto:
    import torch

    with _silence():
        program = torch.onnx.export(
            model.module,
            _example(model),
            input_names=[s.name for s in model.inputs],
            output_names=list(output_names(model)),
            dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in model.inputs),
            opset_version=opset,
            dynamo=True,
        )
    if program is None:
        raise ExportError("torch gave no program")
    proto = program.model_proto
    if opset_of(proto) != opset:
        raise ExportError(f"it wrote opset {opset_of(proto)} where {opset} was asked for")
    return proto


def _export_torchscript(model: TrainedModel, opset: int) -> onnx.ModelProto:
    import onnx
    import torch

    buffer, outputs = io.BytesIO(), list(output_names(model))
    with _silence():
        torch.onnx.export(
            model.module,
            _example(model),
            buffer,  # type: ignore[arg-type]
            input_names=[s.name for s in model.inputs],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in [*(s.name for s in model.inputs), *outputs]},
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_model_from_string(buffer.getvalue())


def output_names(model: TrainedModel) -> tuple[str, ...]:
    """What the graph's outputs are called: as the card says, else as the task says."""
    return model.card.outputs or TASKS[model.card.task].outputs


def _example(model: TrainedModel) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(v) for v in example_feeds(model, EXAMPLE_BATCH).values())


def example_feeds(model: TrainedModel, batch: int) -> dict[str, Array]:
    """Inputs that the model takes: ids that its smallest table has, normal numbers, smooth pictures."""
    from torch import nn

    tables = [m.num_embeddings for m in model.module.modules() if isinstance(m, nn.Embedding)]
    known = {s.name: min(tables) for s in model.inputs if "int" in s.dtype} if tables else {}
    return generate_feeds(model.inputs, batch=batch, seed=batch, vocabularies=known)


def _annotate(proto: onnx.ModelProto, card: ModelCard) -> None:
    """Say in the file what it is; strip what the exporter says about its own source files."""
    proto.producer_name, proto.producer_version = "edgekit", __version__
    facts = {
        "edgekit.version": __version__,
        "edgekit.family": card.family,
        "edgekit.size": card.size,
        "edgekit.task": card.task,
        "edgekit.data": card.data,
        "edgekit.classes": json.dumps(card.classes) if card.classes else "",
        "edgekit.preprocessing": json.dumps(card.preprocessing) if card.preprocessing else "",
    }
    del proto.metadata_props[:]
    for key, value in ((k, v) for k, v in facts.items() if v):
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
def _silence() -> Iterator[None]:
    """The exporters print on stdout and warn about themselves; stdout is ours."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
