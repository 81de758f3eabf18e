"""Whether an exported file is the model it was made of: both run on the same inputs, at many batches and lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import ExportError, ModelError, brief
from edgekit.graph.feeds import generate_feeds
from edgekit.ort import Session
from edgekit.specs import Array, TensorSpec
from edgekit.training.checkpoint import TrainedModel

BATCHES = (1, 2, 7)
LENGTHS = (1, 3, 64)
TOLERANCE = 1e-4
_LONG = 200  # the longest that is run where the family sets no limit
_PAST = {1: 3, 3: 64}  # how much has gone before, at a length; nothing at the others
_TARGET = {1: 3, 3: 64, 64: 1}  # how much was written, at a length that is read; as much at the longest


@dataclass(frozen=True)
class Parity:
    """The largest differences between torch and ONNX Runtime.

    Attributes:
        max_abs: Largest absolute difference.
        max_rel: Largest difference relative to the largest absolute output of torch.
        batches: The batch sizes that were run.
        lengths: The lengths that were run, the longest with the smallest batch only; () where no length is open.
        padded: Whether inputs of different lengths in one batch were run too.
    """

    max_abs: float
    max_rel: float
    batches: tuple[int, ...] = BATCHES
    lengths: tuple[int, ...] = ()
    padded: bool = False


@dataclass(frozen=True)
class Case:
    """One run of both: sizes of the symbolic dimensions by name, and whether samples end before the length."""

    batch: int
    length: int
    sizes: Mapping[str, int]
    padded: bool

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        return f"batch {self.batch}" + (f", {sizes}" if sizes else "") + (", padded" if self.padded else "")


def check_parity(model: TrainedModel, path: Path, tolerance: float = TOLERANCE) -> Parity:
    """Run torch and ONNX Runtime on the same random inputs: batches of 1, 2 and 7, lengths of 1, 3, 64 and the longest.

    A dimension that is fixed in the file is run at that size only. Inputs called `mask` or `lengths` are run full and
    padded.

    Raises:
        ExportError: if the file does not run where torch does, or the largest difference is above `tolerance` times the
            largest absolute output (at least 1).
    """
    session = Session(path)
    chosen = cases(model, session.inputs)
    max_abs, largest = 0.0, 0.0
    for case in chosen:
        for ours, theirs in _answers(model, session, case):
            if ours.shape != theirs.shape:
                raise ExportError(f"the export gives shape {theirs.shape} at {case}, torch gives {ours.shape}")
            max_abs = max(max_abs, _difference(ours, theirs))
            largest = max(largest, float(np.abs(ours).max(initial=0.0)))
    batches, lengths = _seen(c.batch for c in chosen), _seen(c.length for c in chosen if c.sizes)
    parity = Parity(max_abs, max_abs / largest if largest else 0.0, batches, lengths, any(c.padded for c in chosen))
    if not max_abs <= tolerance * max(1.0, largest):
        where = f"batches {_list(batches)}" + (f" and lengths {_list(lengths)}" if lengths else "")
        raise ExportError(
            f"the exported model differs from torch by {max_abs:.3g} (relative {parity.max_rel:.3g}) at {where}; "
            f"at most {tolerance:.0e} is allowed"
        )
    return parity


def cases(model: TrainedModel, inputs: Sequence[TensorSpec]) -> list[Case]:
    """What to run.

    Args:
        model: Names its symbolic dimensions, and knows how long they may be.
        inputs: Of the file; dimensions that are fixed there have one size.
    """
    fixed = _fixed(model.inputs, inputs)
    batches = (fixed.pop("batch"),) if "batch" in fixed else BATCHES
    names = [name for name in symbols(model.inputs) if name not in fixed]
    padded = (False, True) if any(_is_padding(s) for s in model.inputs) else (False,)
    if not names:
        return [Case(b, 0, fixed, p) for b in batches for p in padded]
    limit = min((model.card.limits.get(name, _LONG) for name in names), default=_LONG)
    lengths = sorted({min(length, limit) for length in LENGTHS})
    runs = [(b, length) for b in batches for length in lengths] + [(batches[0], limit)] * (limit not in lengths)
    return [Case(b, n, {**fixed, **{name: _size(name, n) for name in names}}, p) for b, n in runs for p in padded]


def symbols(inputs: Sequence[TensorSpec]) -> list[str]:
    """Names of the symbolic dimensions beyond the batch; "past + length" is made of two.

    >>> symbols([TensorSpec("mask", "int64", ("n", "past + length")), TensorSpec("ids", "int64", ("n", "length"))])
    ['length', 'past']
    """
    open_dims = [d for s in inputs for d in s.shape[1:] if isinstance(d, str)]
    simple = [part.strip() for d in sorted(open_dims, key=lambda d: "+" in d) for part in d.split("+")]
    return list(dict.fromkeys(simple))


def example_feeds(model: TrainedModel, case: Case) -> dict[str, Array]:
    """Inputs that the model takes: ids that its smallest table has, normal numbers, smooth pictures."""
    from torch import nn

    tables = [m.num_embeddings for m in model.module.modules() if isinstance(m, nn.Embedding)]
    unsaid = [s.name for s in model.inputs if "int" in s.dtype and s.vocabulary is None]
    known = {name: min(tables) for name in unsaid} if tables else {}
    shapes = {s.name: _shape(s, case) for s in model.inputs}
    empty = {n for n, shape in shapes.items() if 0 in shape}
    given = [s for s in model.inputs if s.name not in empty]
    feeds = generate_feeds(
        given,
        batch=case.batch,
        shapes={n: s for n, s in shapes.items() if n not in empty},
        seed=case.batch,
        vocabularies=known,
    )
    if case.padded:
        feeds = {s.name: _shortened(feeds[s.name], s, case) for s in given}
    return {s.name: feeds[s.name] if s.name in feeds else np.zeros(shapes[s.name], s.dtype) for s in model.inputs}


def _answers(model: TrainedModel, session: Session, case: Case) -> Iterator[tuple[Array, Array]]:
    feeds = example_feeds(model, case)
    try:
        ours = model.run(feeds)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ExportError(
            f"{model.card.family} cannot be run at {case}: {brief(error, 200)}; where its forward "
            "holds a size, take it from the input instead, as in x.reshape(len(x), -1)"
        ) from error
    try:
        theirs = session.run(feeds)
    except ModelError as error:
        raise ExportError(f"the exported model does not run at {case}, where torch does: {error}") from error
    return zip(ours, theirs, strict=True)


def _fixed(wanted: Sequence[TensorSpec], there: Sequence[TensorSpec]) -> dict[str, int]:
    """Sizes of the symbolic dimensions that the file has fixed."""
    found = {s.name: s.shape for s in there}
    pairs = [pair for s in wanted if s.name in found for pair in zip(s.shape, found[s.name], strict=True)]
    return {name: size for name, size in pairs if isinstance(name, str) and isinstance(size, int)}


def _size(name: str, length: int) -> int:
    if name.startswith("target"):
        return _TARGET.get(length, length)
    return _PAST.get(length, 0) if name.startswith("past") else length


def _shape(spec: TensorSpec, case: Case) -> tuple[int, ...]:
    sizes = {"batch": case.batch, **case.sizes}
    return tuple(
        d if isinstance(d, int) else sizes[d] if d in sizes else sum(sizes[part.strip()] for part in d.split("+"))
        for d in spec.shape
    )


def _is_padding(spec: TensorSpec) -> bool:
    return spec.name == "lengths" or (spec.name.endswith("mask") and spec.rank == 2)


def _shortened(values: Array, spec: TensorSpec, case: Case) -> Array:
    """A mask or lengths of samples that end anywhere; the first sample keeps its length."""
    if not _is_padding(spec):
        return values
    longest = int(values.max()) if spec.rank == 1 else values.shape[1]
    ends = np.random.default_rng(case.length).integers(1, longest + 1, case.batch)
    ends[0] = longest
    kept = ends if spec.rank == 1 else np.arange(longest) < ends[:, None]
    return kept.astype(values.dtype)


def _difference(ours: Array, theirs: Array) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0))


def _seen(values: Iterator[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(values))


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
