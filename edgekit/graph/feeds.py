"""Inputs made from a model's specs alone, by dtype and name, with bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from edgekit.errors import ModelError
from edgekit.graph.stored import spec_of
from edgekit.specs import Array, TensorSpec

MAX_BYTES = 1 << 30
# Most models accept any: large enough to be typical of what they do, small enough to be quick; the rest are for others.
GUESSED_DIMS = (64, 224, 32, 8, 1)
_FEW_IDS = 100
_MASK_NAMES = ("mask",)
_POSITIONS = ("position_ids",)
_ZERO_NAMES = ("token_type", "segment")


def missing_dims(inputs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """The inputs with a symbolic dimension beyond the batch that `shapes` does not settle."""
    return [str(s) for s in inputs if s.name not in shapes and any(not isinstance(d, int) for d in s.shape[1:])]


def elements_of_sequences(model: onnx.ModelProto) -> dict[str, TensorSpec]:
    """What the inputs of a model that are sequences of tensors hold, by name."""
    found = {}
    for value in model.graph.input:
        if value.type.HasField("sequence_type"):
            element = onnx.ValueInfoProto(name=value.name, type=value.type.sequence_type.elem_type)
            found[value.name] = spec_of(element)
    return found


def guessed_shapes(inputs: Sequence[TensorSpec]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes to try where nobody gave any, the likeliest first.

    The batch is 1 and every other symbolic dimension has one size. The batch is the first dimension, and in later
    guesses the first symbolic one: the state of a recurrent network has its layers first.
    """
    for batch_is_first in (True, False):
        for dim in GUESSED_DIMS:
            yield {s.name: _guessed(s, dim, batch_is_first) for s in inputs}


def _guessed(spec: TensorSpec, dim: int, batch_is_first: bool) -> tuple[int, ...]:
    symbolic = [axis for axis, d in enumerate(spec.shape) if not isinstance(d, int)]
    batch = 0 if batch_is_first else next(iter(symbolic), 0)
    return tuple(
        d if isinstance(d, int) else 1 if axis == batch else _size(d, dim) for axis, d in enumerate(spec.shape)
    )


def _size(dim: str, length: int) -> int:
    """A dimension where each length is the same: a mask covers what a model remembers and what it is given.

    >>> [_size(dim, 8) for dim in ("length", "past_length + length", "past_length + 3", "total_sequence_length")]
    [8, 16, 11, 16]
    """
    if dim.startswith("total_"):
        return 2 * length
    return sum(int(part) if part.strip().isdigit() else length for part in dim.split("+"))


def generate_feeds(
    inputs: Sequence[TensorSpec],
    *,
    batch: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    default_dim: int | None = None,
    seed: int = 0,
    vocabularies: Mapping[str, int] | None = None,
) -> dict[str, Array]:
    """Values for every input: normal floats, smooth pictures, ids that exist, masks of ones, lengths that are full.

    Args:
        inputs: The model's inputs.
        batch: What a symbolic first dimension becomes.
        shapes: Whole shapes by input name; they win over everything else.
        default_dim: What any other symbolic dimension becomes; None refuses it.
        seed: Of the generator.
        vocabularies: How many ids there are, by input name, where an embedding tells; else what the spec says, and
            small ids where that says nothing.

    Raises:
        ModelError: for a symbolic dimension that nothing settles, a shape that does not fit, or inputs beyond 1 GiB.
    """
    given = dict(shapes or {})
    extra = sorted(set(given) - {s.name for s in inputs})
    if extra:
        raise ModelError(
            f"--shape names unknown inputs {', '.join(extra)}; the model has {', '.join(map(str, inputs))}"
        )
    if default_dim is None and (unsettled := missing_dims(inputs, given)):
        raise ModelError(
            f"the model has dynamic dimensions: {'; '.join(unsettled)}; give them, for example "
            f"--shape {unsettled[0].split(':')[0]}=1x…"
        )
    rng = np.random.default_rng(seed)
    resolved = {s.name: _resolve(s, batch, given.get(s.name), default_dim) for s in inputs}
    _refuse_enormous(inputs, resolved)
    known = vocabularies or {}
    feeds = {s.name: _values(s, resolved[s.name], rng, known.get(s.name, s.vocabulary)) for s in inputs}
    full = min((a.shape[1] for a in feeds.values() if a.ndim > 1), default=1)
    return {s.name: np.full_like(feeds[s.name], full) if _is_lengths(s) else feeds[s.name] for s in inputs}


def _is_lengths(spec: TensorSpec) -> bool:
    """Whether it says how long each sample of the other inputs is."""
    return spec.rank == 1 and spec.name.lower().endswith("lengths") and np.dtype(spec.dtype).kind == "i"


def _refuse_enormous(inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what would not fit, before a byte of it is allocated."""
    sizes = {s.name: math.prod(shapes[s.name]) * np.dtype(s.dtype).itemsize for s in inputs}
    total = sum(sizes.values())
    if total <= MAX_BYTES:
        return
    largest = max(inputs, key=lambda s: sizes[s.name])
    shape = "x".join(map(str, shapes[largest.name]))
    raise ModelError(
        f"inputs of these shapes take {total:,} bytes, the largest is {largest.name} as {largest.dtype} {shape}; "
        f"edgekit generates at most {MAX_BYTES:,} bytes, give a smaller --shape or batch"
    )


def _resolve(spec: TensorSpec, batch: int, given: Sequence[int] | None, default_dim: int | None) -> tuple[int, ...]:
    if given is not None:
        fits = len(given) == spec.rank and all(
            not isinstance(want, int) or want == got for want, got in zip(spec.shape, given, strict=False)
        )
        if not fits or any(d < 1 for d in given):
            raise ModelError(f"shape {'x'.join(map(str, given))} does not fit input {spec}")
        return tuple(given)
    return tuple(
        d if isinstance(d, int) else batch if axis == 0 else _size(d, default_dim or 1)
        for axis, d in enumerate(spec.shape)
    )


def _values(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, vocabulary: int | None) -> Array:
    name, kind = spec.name.lower(), np.dtype(spec.dtype).kind
    if kind == "f" and name.endswith(_MASK_NAMES):
        return np.ones(shape, dtype=spec.dtype)
    if kind == "f":
        return _floats(shape, rng).astype(spec.dtype)
    if kind == "O":
        return np.full(shape, "edgekit", dtype=object)
    if any(part in name for part in _MASK_NAMES) or kind == "b":
        return np.ones(shape, dtype=spec.dtype)
    if any(part in name for part in _ZERO_NAMES):
        return np.zeros(shape, dtype=spec.dtype)
    if name.endswith(_POSITIONS) and shape:
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(spec.dtype)
    ids = min(vocabulary or (2 if shape == () else _FEW_IDS), np.iinfo(spec.dtype).max)
    return rng.integers(0, ids, size=shape).astype(spec.dtype)


def _floats(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if _is_image(shape):
        return _smooth_images(shape, rng)
    if len(shape) == 4 and _is_image((shape[0], shape[3], *shape[1:3])):  # channels last, as TensorFlow has them
        return np.moveaxis(_smooth_images((shape[0], shape[3], *shape[1:3]), rng), 1, 3)
    return rng.standard_normal(shape)


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] in (1, 3, 4) and min(shape[2:]) >= 8


def _smooth_images(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Pictures of coarse patches under a little noise: white noise is nothing that a vision model has ever seen."""
    coarse = rng.standard_normal((*shape[:2], 4, 4))
    rows, columns = (np.arange(size) * 4 // size for size in shape[2:])
    return np.asarray(coarse[:, :, rows][..., columns] + 0.1 * rng.standard_normal(shape))
