"""Weights into a module, and every name and shape that does not fit in one error."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import ModelError
from edgekit.load.mapping import WeightMapping, matches_any

if TYPE_CHECKING:
    from torch import Tensor, nn

# Counts of batches since torch 0.4; older files have none, and nothing but a momentum of None reads them.
_OPTIONAL = ("*num_batches_tracked",)


@dataclass(frozen=True)
class Taken:
    """What a module took from a file.

    Attributes:
        tensors: How many it took.
        left: Names in the file that were deliberately not taken.
        initial: Names in the module that keep their initial values.
    """

    tensors: int
    left: tuple[str, ...]
    initial: tuple[str, ...]


def load_into(module: nn.Module, weights: Mapping[str, Tensor], mapping: WeightMapping, where: str, what: str) -> Taken:
    """Load weights into a module, all of them or none.

    Args:
        module: Changed in place.
        weights: As the file has them.
        mapping: To our names.
        where: The file, for messages.
        what: The module, for messages.

    Raises:
        ModelError: one line for each name that is missing, extra, of another shape, or not finite.
    """
    mine = module.state_dict()
    offered = {k: v for k, v in weights.items() if not matches_any(k, mapping.allow_extra)}
    found = mapping.apply(offered, where)
    optional = [*mapping.allow_missing, *_OPTIONAL]
    missing = [k for k in mine if k not in found and not matches_any(k, optional)]
    extra = [k for k in found if k not in mine]
    misfits = {k: v for k, v in found.items() if k in mine and v.shape != mine[k].shape}
    lines = [*_missing(missing, mine, extra, found), *_extra(extra, found), *_shapes(misfits, mine)]
    if lines:
        counts = f"{len(missing)} missing, {len(extra)} extra, {len(misfits)} of another shape, {len(mine)} wanted"
        raise ModelError("\n".join([f"{where} does not fit {what}: {counts}{_hint(extra, missing)}", *lines]))
    _refuse_not_finite(found, where)
    module.load_state_dict(found, strict=False)
    left = tuple(k for k in weights if k not in offered)
    return Taken(len(found), left, tuple(k for k in mine if k not in found and not matches_any(k, _OPTIONAL)))


def _missing(
    names: Sequence[str], mine: Mapping[str, Tensor], extra: Sequence[str], found: Mapping[str, Tensor]
) -> Iterator[str]:
    for name in names:
        near = _nearest(name, mine[name], {k: found[k] for k in extra})
        yield f"missing {name} ({_dims(mine[name])})" + (f"; nearest in the file: {near}" if near else "")


def _extra(names: Sequence[str], found: Mapping[str, Tensor]) -> Iterator[str]:
    for name in names:
        yield f"extra {name} ({_dims(found[name])})"


def _shapes(misfits: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in misfits.items():
        turned = tensor.ndim == 2 and tensor.shape == mine[name].shape[::-1]
        hint = f"; turn it: transpose: {{{name}: [1, 0]}}" if turned else ""
        yield f"shape of {name}: got {_dims(tensor)}, it must be {_dims(mine[name])}{hint}"


def _hint(extra: Sequence[str], missing: Sequence[str]) -> str:
    """A prefix that every name of the file has is the likeliest reason."""
    for prefix in dict.fromkeys(name.removesuffix(m) for name in extra[:1] for m in missing if name.endswith(m)):
        if prefix and all(name.startswith(prefix) for name in extra):
            return f"; every extra name starts with {prefix!r}: --strip {prefix}"
    return ""


def _nearest(name: str, tensor: Tensor, others: Mapping[str, Tensor]) -> str:
    """The nearest name among those of the same shape, or among all."""
    alike = [k for k, v in others.items() if v.shape == tensor.shape]
    near = difflib.get_close_matches(name, alike or list(others)[:200], n=1, cutoff=0.4 if alike else 0.7)
    return near[0] if near else ""


def _refuse_not_finite(weights: Mapping[str, Tensor], where: str) -> None:
    bad = [k for k, v in weights.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if bad:
        raise ModelError(f"{where} holds NaN or infinite values in {', '.join(bad)}; train again or take another file")


def _dims(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
