"""Language models that are asked token by token, with what they remember where they remember something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import BundleError
from edgekit.specs import TEXT_INPUTS, Array, Feeds, TensorSpec

_PASTS, _STATES = ("past_key_values", "past", "cache"), ("hidden", "cell")
_PRESENTS = ("present_key_values", "present", "next", "cache")


@dataclass(frozen=True)
class LanguageTensors:
    """Which tensors of a language model are what.

    Attributes:
        ids: Name of the input for ids.
        mask: Name of that for the mask; "" where there is none.
        positions: Name of that for positions; "" where there is none.
        past: The inputs for what was remembered: keys and values, or a state; () for a model that remembers nothing.
        present: Names of the outputs that become the past of the next run, in the same order.
    """

    ids: str
    mask: str
    positions: str
    past: tuple[TensorSpec, ...]
    present: tuple[str, ...]

    def remembered(self, tokens: int) -> list[Array]:
        """Zeros for what is remembered of so many tokens, for a batch of 1: no keys of none, and a state of any."""
        return [np.zeros(_sizes(spec, tokens), spec.dtype) for spec in self.past]


def language_tensors(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> LanguageTensors | None:
    """Tell the tensors of a language model apart, by our names and those of Hugging Face; None for any other model."""
    names, given = [s.name for s in inputs], [s.name for s in outputs]
    ids, mask, positions = (_first(TEXT_INPUTS[role], names) for role in ("ids", "mask", "positions"))
    past = tuple(s for s in inputs if s.name not in (ids, mask, positions))
    present = _presents([s.name for s in past], [name for name in given if name != "logits"])
    remembers = all(s.name.startswith(_PASTS) or s.name in _STATES for s in past) and len(present) == len(past)
    return LanguageTensors(ids, mask, positions, past, present) if ids and "logits" in given and remembers else None


def _presents(past: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """The output that becomes each input of the next run: by its name, or by its place where names tell nothing.

    >>> _presents(["past_key_values.0.key", "past_key_values.0.value"], ["present.0.value", "present.0.key"])
    ('present.0.key', 'present.0.value')
    """
    named = {_stem(name, _PRESENTS): name for name in given}
    wanted = [_stem(name, _PASTS) for name in past]
    told = len(named) == len(given) and all(name in named for name in wanted)
    return tuple(named[name] for name in wanted) if told else tuple(given[: len(past)])


def _stem(name: str, prefixes: Sequence[str]) -> str:
    """What a name says beside past or present, such as "0.key"."""
    prefix = next((p for p in prefixes if name.startswith(p)), "")
    return name.removeprefix(prefix).lstrip("._")


def _first(wanted: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in wanted if name in names), "")


def _sizes(spec: TensorSpec, tokens: int) -> tuple[int, ...]:
    # what is no length is the batch
    return tuple(d if isinstance(d, int) else tokens if _is_length(d) else 1 for d in spec.shape)


def _is_length(dim: str) -> bool:
    return dim.startswith("past") or "sequence" in dim or "length" in dim


class Memory:
    """A language model that is asked token by token; one for each text.

    Args:
        run: Name of the input -> array to name of the output -> array.
        inputs: Of the model.
        outputs: Of the model.

    Raises:
        BundleError: if it is no language model.
    """

    def __init__(
        self, run: Callable[[Feeds], Mapping[str, Array]], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        found = language_tensors(inputs, outputs)
        if found is None:
            raise BundleError(f"the bundle's model writes no text; it takes {'; '.join(map(str, inputs))}")
        self.tensors, self._run = found, run
        self._types = {spec.name: spec.dtype for spec in inputs}
        self._read: list[int] = []
        self._kept = found.remembered(0)

    @property
    def cache_bytes(self) -> int:
        """Of what it remembers by now."""
        return sum(array.nbytes for array in self._kept)

    def read(self, ids: Sequence[int]) -> Array:
        """Read further tokens; the logits of the next one, (vocabulary,)."""
        self._read += ids
        answers = self._run(self._feeds(ids if self.tensors.past else self._read))
        self._kept = [answers[name] for name in self.tensors.present]
        return np.asarray(answers["logits"][0, -1], np.float32)

    def _feeds(self, given: Sequence[int]) -> Feeds:
        names, total = self.tensors, len(self._read)
        feeds: dict[str, Array] = {names.ids: np.array([given], self._types[names.ids])}
        if names.mask:
            feeds[names.mask] = np.ones((1, total), self._types[names.mask])
        if names.positions:
            places = np.arange(total - len(given), total)[None, :]
            feeds[names.positions] = places.astype(self._types[names.positions])
        return {**feeds, **{spec.name: array for spec, array in zip(names.past, self._kept, strict=True)}}
