"""One shape for every graph: what later steps may rely on, whatever exporter made the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from google.protobuf.message import EncodeError

from edgekit.errors import EdgekitError
from edgekit.graph.branches import resolve_branches
from edgekit.graph.clean import name_nodes, name_weights, remove_dead, remove_identities, strip_notes, strip_value_info
from edgekit.graph.constants import dedupe, fold_constants, fold_static_shapes, lift_constants
from edgekit.graph.fold_affine import fold_affine
from edgekit.graph.gelu import reorder_gelu
from edgekit.graph.hard_sigmoid import merge_hard_sigmoids
from edgekit.graph.opset import raise_opset

Pass = Callable[[onnx.ModelProto], object]

_MIN_IR = 8  # initializers that are no inputs need 4; every ONNX Runtime since 1.10 loads 8
_FAILURES = (
    ArithmeticError,
    AttributeError,
    EdgekitError,
    EncodeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
)


def normalise(model: onnx.ModelProto, *, min_opset: int | None = None) -> onnx.ModelProto:
    """A new model that computes the same and is easier to work with.

    Functions are inlined; constants are lifted to initializers, folded where the file does not grow, and equal ones
    made one; scales and shifts, BatchNormalization among them, are folded into convolutions; hard sigmoids spelled out
    are made one node; branches that are known are taken; identities, dead
    nodes, unused initializers, documentation and stale types are gone; every node and weight has a name of its own.
    Inputs, outputs, the model's metadata_props and overridable initializers stay as they are. A pass that fails on a
    graph is left out.

    Args:
        model: Any valid model; it is not changed.
        min_opset: The opset of the default domain that the caller needs.

    Raises:
        CompressError: if the opset cannot be raised that far; the message says why.
    """
    result = run_passes(model, PASSES)
    if min_opset is not None:
        raised = raise_opset(result, min_opset)
        result = result if raised is result else run_passes(raised, PASSES)
    return result


def run_passes(model: onnx.ModelProto, passes: Sequence[Pass]) -> onnx.ModelProto:
    """Apply passes to a copy; those that fail, or break the graph, are left out."""
    left = list(passes)
    while True:
        result = onnx.ModelProto()
        result.CopyFrom(model)
        failed = next((p for p in left if not _runs(p, result)), None)
        if failed is not None:
            left.remove(failed)
        elif set(left) <= set(_HARMLESS) or _is_sound(result) or not _is_sound(model):
            return result
        else:
            left = [p for p in left if p in _HARMLESS]


def _runs(step: Pass, model: onnx.ModelProto) -> bool:
    try:
        step(model)
    except _FAILURES:
        return False
    return True


def _is_sound(model: onnx.ModelProto) -> bool:
    from edgekit.graph.shapes import without_weights

    try:
        onnx.checker.check_model(without_weights(model))
    except _FAILURES:
        return False
    return True


def inline_functions(model: onnx.ModelProto) -> None:
    """Inline the model's own functions, so that later passes see their nodes and weights."""
    if not model.functions:
        return
    from onnx import inliner

    inlined = inliner.inline_local_functions(model)
    model.graph.CopyFrom(inlined.graph)
    del model.functions[:]
    model.functions.extend(inlined.functions)
    del model.opset_import[:]
    model.opset_import.extend(inlined.opset_import)


def modernise_ir(model: onnx.ModelProto) -> None:
    """Raise an IR version before 4, in which initializers had to be inputs too, and none could be overridden."""
    if model.ir_version >= 4:
        return
    weights = {i.name for i in model.graph.initializer}
    for i in reversed(range(len(model.graph.input))):
        if model.graph.input[i].name in weights:
            del model.graph.input[i]
    model.ir_version = _MIN_IR


def simplify(model: onnx.ModelProto) -> None:
    """Fold, take known branches and clean up until nothing changes."""
    changed = True
    while changed:
        changed = any([fold_static_shapes(model), fold_constants(model), resolve_branches(model)])
        remove_identities(model)
        remove_dead(model)


PASSES: tuple[Pass, ...] = (
    modernise_ir,
    inline_functions,
    strip_notes,
    strip_value_info,
    lift_constants,
    remove_identities,
    remove_dead,
    simplify,
    merge_hard_sigmoids,
    fold_affine,
    reorder_gelu,
    remove_dead,
    dedupe,
    name_weights,
    name_nodes,
)
_HARMLESS = (strip_notes, name_nodes)

__all__ = ["PASSES", "normalise", "run_passes"]
