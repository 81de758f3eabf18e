"""Language models that are asked token by token, with a cache and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edgekit.errors import ModelError
from edgekit.ort import Session
from edgekit.specs import Array, Feeds, TensorSpec

_PASTS = ("past_key_values", "past", "cache")
_STATES = ("hidden", "cell")
_IDS, _MASKS, _POSITIONS = ("ids", "input_ids"), ("mask", "attention_mask"), ("position_ids",)


class LanguageModel(Protocol):
    """What generation asks: the loop knows nothing else of a model."""

    @property
    def vocabulary(self) -> int | None:
        """How many tokens it knows; None where only a run would tell."""
        ...

    @property
    def longest(self) -> int | None:
        """The longest text in tokens; None for no limit."""
        ...

    @property
    def cache_bytes(self) -> int:
        """Memory of what it remembers by now."""
        ...

    def read(self, ids: Sequence[int]) -> Array:
        """Read further tokens; the logits of the next one, (vocabulary,)."""
        ...


class SessionModel:
    """An ONNX file: `ids` in, `logits` out, and a cache of keys and values or a state where it has one.

    Args:
        session: Its inputs are called as ours are, or as Hugging Face's are.
        longest: The longest text in tokens, where the file has a limit.

    Raises:
        ModelError: if it is no language model.
    """

    def __init__(self, session: Session, longest: int | None = None) -> None:
        self.session, self._longest = session, longest
        names = {s.name: s for s in session.inputs}
        self._ids = _one_of(names, _IDS)
        self._mask, self._positions = (_one_of(names, n) for n in (_MASKS, _POSITIONS))
        known = {n for n in (self._ids, self._mask, self._positions) if n}
        self._past = [s for s in session.inputs if s.name not in known]
        outputs = [s.name for s in session.outputs]
        self._present = [o for o in outputs if o != "logits"][: len(self._past)]
        foreign = [s for s in self._past if not _is_memory(s)]
        if self._ids is None or "logits" not in outputs or foreign or len(self._present) < len(self._past):
            raise ModelError(
                f"this is no language model that can generate: inputs {', '.join(map(str, session.inputs))}; outputs "
                f"{', '.join(outputs)}; it needs `ids` and `logits`, and for each past key or value its present one"
            )
        self._read: list[int] = []
        self._memory: list[Array] = [_of_length(s, 0) for s in self._past]

    @property
    def vocabulary(self) -> int | None:
        """How many tokens it knows, where the file says it."""
        last = next(s for s in self.session.outputs if s.name == "logits").shape[-1]
        return last if isinstance(last, int) else None

    @property
    def longest(self) -> int | None:
        """The longest text in tokens."""
        return self._longest

    @property
    def has_cache(self) -> bool:
        """Whether it remembers what it read; otherwise all of it is read again for each token."""
        return bool(self._past)

    @property
    def cache_bytes(self) -> int:
        """Memory of what it remembers by now."""
        return sum(a.nbytes for a in self._memory)

    @property
    def cache_bytes_per_token(self) -> int:
        """By how much what it remembers grows with each token; 0 for a state."""
        return self.bytes_at(1) - self.bytes_at(0)

    def bytes_at(self, tokens: int) -> int:
        """Memory of what it remembers of so many tokens."""
        return sum(_of_length(s, tokens).nbytes for s in self._past)

    def read(self, ids: Sequence[int]) -> Array:
        """Read further tokens; the logits of the next one, (vocabulary,)."""
        self._read += ids
        given = ids if self.has_cache else self._read
        logits, *present = self.session.run(self._feeds(given), ["logits", *self._present])
        self._memory = present
        return np.asarray(logits[0, -1], dtype=np.float32)

    def _feeds(self, given: Sequence[int]) -> Feeds:
        total = len(self._read)
        feeds = {str(self._ids): np.array([given], dtype=np.int64)}
        if self._mask:
            feeds[self._mask] = np.ones((1, total), dtype=np.int64)
        if self._positions:
            feeds[self._positions] = np.arange(total - len(given), total, dtype=np.int64)[None, :]
        return {**feeds, **{s.name: a for s, a in zip(self._past, self._memory, strict=True)}}


def _one_of(names: dict[str, TensorSpec], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _is_memory(spec: TensorSpec) -> bool:
    return spec.name.startswith(_PASTS) or spec.name in _STATES


def _of_length(spec: TensorSpec, tokens: int) -> Array:
    """Zeros for what is remembered of so many tokens, for a batch of 1; no keys of none, and a state of any."""
    shape = tuple(
        d if isinstance(d, int) else tokens if _is_length(d) else 1  # what is no length is the batch
        for d in spec.shape
    )
    return np.zeros(shape, spec.dtype)


def _is_length(dim: str) -> bool:
    return dim.startswith("past") or "sequence" in dim or "length" in dim
