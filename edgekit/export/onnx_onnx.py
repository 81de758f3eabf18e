"""ONNX -> ONNX: dimensions fixed, opset and IR changed, checked against the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ExportError, ModelError, brief
from edgekit.files import replacing
from edgekit.graph.feeds import generate_feeds
from edgekit.graph.fix import Value, fix_inputs
from edgekit.graph.read import read_model
from edgekit.graph.scopes import opset_of
from edgekit.graph.write import accept, save
from edgekit.ort import Session, ceiling_of, installed_ceiling

if TYPE_CHECKING:
    import onnx

    from edgekit.specs import Array

_TOLERANCE = 1e-4


def rewrite_onnx(
    source: Path, out: Path, *, opset: int | None = None, target_ort: str | None = None, fix: Sequence[str] = ()
) -> dict[str, Any]:
    """Write an ONNX file anew.

    Args:
        source: An .onnx file.
        out: The file to write.
        opset: To convert the default domain to.
        target_ort: Version of the oldest ONNX Runtime that must load the file.
        fix: `name=value` for dynamic dimensions and scalar inputs.

    Raises:
        ModelError: if the source cannot be used.
        ExportError: if it cannot be converted, or the result differs from the source.
    """
    ceiling = ceiling_of(target_ort) if target_ort else installed_ceiling()
    model = read_model(source)
    values = parse_fix(fix)
    if values:
        model = fix_inputs(model, values)
    model = convert_opset(model, _wanted_opset(model, opset, ceiling.opset, target_ort))
    model.ir_version = min(model.ir_version, ceiling.ir_version)
    with replacing(out) as temporary:
        save(model, temporary)
        ran = accept(temporary).ran
        difference = _difference(source, temporary, values) if ran else None
    return {
        "path": str(out),
        "opset": opset_of(model),
        "ir_version": model.ir_version,
        "exporter": "onnx",
        "fixed": dict(values),
        "max_abs": difference,
        "note": "" if ran else "not compared with the original: its inputs cannot be guessed",
    }


def parse_fix(assignments: Sequence[str]) -> dict[str, Value]:
    """`name=value` -> numbers and booleans.

    >>> parse_fix(["batch=1", "training=false"])
    {'batch': 1, 'training': False}
    """
    values: dict[str, Value] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ExportError(f"--fix {text}: got no name=value; write it as --fix batch=1")
        values[name] = _number(value, text)
    return values


def _number(value: str, text: str) -> Value:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        raise ExportError(f"--fix {text}: {value!r} is no number, true or false") from None


def _wanted_opset(model: onnx.ModelProto, opset: int | None, highest: int, target_ort: str | None) -> int:
    wanted = opset if opset is not None else min(opset_of(model), highest)
    if not 7 <= wanted <= highest:
        raise ExportError(
            f"opset {wanted} cannot be had: ONNX Runtime {target_ort or 'as installed'} loads 7 to {highest}"
        )
    return wanted


def convert_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model at another opset; its metadata stays.

    Raises:
        ExportError: if it cannot be converted.
    """
    import onnx

    if opset_of(model) == opset:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError, IndexError, onnx.version_converter.ConvertError) as error:
        reason = brief(error, 200)
        raise ExportError(f"opset {opset_of(model)} cannot be converted to {opset}: {reason}") from error
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    return converted


def _difference(source: Path, out: Path, fixed: Mapping[str, Value]) -> float:
    """Largest absolute difference from the original, on generated inputs; fixed inputs are fed to the original."""
    before, after = Session(source), Session(out)
    feeds: dict[str, Array] = dict(generate_feeds(after.inputs, default_dim=8))
    scalars = {
        s.name: np.full([d if isinstance(d, int) else 1 for d in s.shape], fixed[s.name]).astype(s.dtype)
        for s in before.inputs
        if s.name in fixed
    }
    try:
        wanted, got = before.run({**feeds, **scalars}), after.run(feeds)
    except ModelError as error:
        raise ExportError(f"the rewritten model could not be compared with the original: {error}") from error
    largest = 0.0
    for a, b in zip(wanted, got, strict=True):
        if a.shape != b.shape:
            raise ExportError(f"the rewritten model gives shape {b.shape} where the original gives {a.shape}")
        if a.dtype.kind in "fiu":
            worst = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))
            largest = max(largest, worst / max(1.0, float(np.abs(a).max(initial=0.0))))
    if not largest <= _TOLERANCE:
        raise ExportError(
            f"the rewritten model differs from the original by {largest:.3g}; at most {_TOLERANCE:.0e} is allowed"
        )
    return largest
