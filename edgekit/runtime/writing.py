"""Text out of a language model, token by token, with what it remembers where it remembers something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import BundleError, InputError
from edgekit.runtime.texts import TextPreparation
from edgekit.specs import Array, Feeds, TensorSpec

_IDS = ("ids", "input_ids")
_MASKS, _POSITIONS = ("mask", "attention_mask"), ("position_ids",)
_PASTS, _STATES = ("past_key_values", "past", "cache"), ("hidden", "cell")
_HALF = "\ufffd"  # what a part of a character is decoded to


@dataclass(frozen=True)
class Drawing:
    """How the next token is chosen.

    Attributes:
        temperature: Logits are divided by it; 0 takes the likeliest token always.
        top_k: Of so many likeliest tokens only; 0 for all.
        top_p: Of the fewest likeliest tokens that hold this share of the probability; 1 for all.

    Raises:
        InputError: for a value out of its range.

    Source: top-k: Fan et al. 2018, arXiv:1805.04833; top-p: Holtzman et al. 2019, arXiv:1904.09751.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more, got {self.temperature}; 0 takes the likeliest token")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 (all tokens) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie above 0 and be at most 1 (all tokens), got {self.top_p}")

    def draw(self, logits: Array, rng: np.random.Generator) -> int:
        """The id of the next token: logits (vocabulary,) -> 0..vocabulary - 1."""
        if self.temperature == 0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self.temperature
        if 0 < self.top_k < len(scaled):
            scaled[np.argsort(-scaled, kind="stable")[self.top_k :]] = -np.inf
        odds = np.exp(scaled - scaled.max())
        shares = odds / odds.sum()
        if self.top_p < 1:
            order = np.argsort(-shares, kind="stable")
            before = np.cumsum(shares[order]) - shares[order]
            shares[order[before >= self.top_p]] = 0
        return int(rng.choice(len(logits), p=shares / shares.sum()))


@dataclass(frozen=True)
class Written:
    """What a language model wrote.

    Attributes:
        text: Without the prompt.
        prompt_tokens: Of the prompt.
        tokens: That were written.
        stopped: Why: "end" of the text, "stop" text, "max-tokens", or the model's "longest" text.
    """

    text: str
    prompt_tokens: int
    tokens: int
    stopped: str


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
        self, run: Callable[[Feeds], dict[str, Array]], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        names = [spec.name for spec in inputs]
        self._run = run
        self._ids, self._mask, self._positions = (
            next((name for name in wanted if name in names), "") for wanted in (_IDS, _MASKS, _POSITIONS)
        )
        self._past = [s for s in inputs if s.name not in (self._ids, self._mask, self._positions)]
        self._present = [s.name for s in outputs if s.name != "logits"][: len(self._past)]
        foreign = [s for s in self._past if not (s.name.startswith(_PASTS) or s.name in _STATES)]
        if (
            not self._ids
            or "logits" not in (s.name for s in outputs)
            or foreign
            or len(self._present) < len(self._past)
        ):
            raise BundleError(f"the bundle's model writes no text; it takes {'; '.join(map(str, inputs))}")
        self._read: list[int] = []
        self._kept: list[Array] = [_nothing_of(spec) for spec in self._past]

    def read(self, ids: Sequence[int]) -> Array:
        """Read further tokens; the logits of the next one, (vocabulary,)."""
        self._read += ids
        given, total = ids if self._past else self._read, len(self._read)
        feeds: dict[str, Array] = {self._ids: np.array([given], np.int64)}
        if self._mask:
            feeds[self._mask] = np.ones((1, total), np.int64)
        if self._positions:
            feeds[self._positions] = np.arange(total - len(given), total, dtype=np.int64)[None, :]
        feeds.update((spec.name, array) for spec, array in zip(self._past, self._kept, strict=True))
        found = self._run(feeds)
        self._kept = [found[name] for name in self._present]
        return np.asarray(found["logits"][0, -1], np.float32)


def _nothing_of(spec: TensorSpec) -> Array:
    """Zeros for what is remembered before the first token, for a batch of 1: no keys of none, and a state."""
    sizes = (d if isinstance(d, int) else 0 if _is_length(d) else 1 for d in spec.shape)
    return np.zeros(tuple(sizes), spec.dtype)


def _is_length(dim: str) -> bool:
    return dim.startswith("past") or "sequence" in dim or "length" in dim


@dataclass
class _Draft:
    """A text that grows; what may yet turn out to be half a character or a stop text is not shown."""

    known: TextPreparation
    stops: Sequence[str]
    show: Callable[[str], object]
    ids: list[int]
    text: str = ""
    shown: int = 0

    def take(self, token: int) -> bool:
        """Add a token; whether a stop text is complete."""
        self.ids.append(token)
        self.text = self.known.decode(self.ids)
        found = [place for place in (self.text.find(stop) for stop in self.stops) if place >= 0]
        if found:
            self.text = self.text[: min(found)]
            return True
        whole = self.text.rstrip(_HALF)
        self.show_up_to(len(whole) - max((_begun(whole, stop) for stop in self.stops), default=0))
        return False

    def show_up_to(self, end: int) -> None:
        """Show what has not been shown."""
        if end > self.shown:
            self.show(self.text[self.shown : end])
            self.shown = end


def _begun(text: str, stop: str) -> int:
    """How many characters of a stop text the end of a text may be."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def write_text(
    memory: Memory,
    known: TextPreparation,
    prompt: str,
    *,
    longest: int | None,
    max_tokens: int,
    drawing: Drawing,
    seed: int,
    stops: Sequence[str],
    show: Callable[[str], object],
) -> Written:
    """Go on from a prompt.

    Args:
        memory: Fresh: it has read nothing.
        known: The tokeniser.
        prompt: The text so far; "" begins anew.
        longest: The longest text in tokens; None for any.
        max_tokens: Most tokens to write.
        drawing: How tokens are chosen.
        seed: Of the random numbers.
        stops: Texts at which to stop; they are no part of the answer.
        show: Gets each piece as soon as nothing can change it any more.

    Raises:
        InputError: if the prompt is no text or too long, or max_tokens below 1.
    """
    if max_tokens < 1:
        raise InputError(f"max_tokens must be 1 or more, got {max_tokens}")
    ids = _prompt_ids(known, prompt, longest)
    draft, rng = _Draft(known, [stop for stop in stops if stop], show, []), np.random.default_rng(seed)
    logits, stopped = memory.read(ids), ""
    while True:
        stopped = _stopped(draft, drawing.draw(logits[: known.vocabulary], rng), max_tokens, longest, len(ids))
        if stopped:
            break
        logits = memory.read(draft.ids[-1:])
    draft.show_up_to(len(draft.text))
    return Written(draft.text, len(ids), len(draft.ids), stopped)


def _stopped(draft: _Draft, token: int, max_tokens: int, longest: int | None, prompt: int) -> str:
    """Take a token in; why it was the last, or ""."""
    if token in draft.known.ends:
        draft.ids.append(token)
        return "end"
    if draft.take(token):
        return "stop"
    if len(draft.ids) >= max_tokens:
        return "max-tokens"
    return "longest" if longest is not None and prompt + len(draft.ids) >= longest else ""


def _prompt_ids(known: TextPreparation, prompt: Any, longest: int | None) -> list[int]:
    """The ids of the prompt; the end token before an empty one, as before each text of the training data."""
    if not isinstance(prompt, str):
        raise InputError(f"a prompt is a text, got {type(prompt).__name__}")
    ids = known.encode(prompt)
    if ids and ids[-1] in known.ends:  # what a tokeniser puts behind a whole text
        ids.pop()
    if not ids and known.end is None:
        raise InputError("the prompt is empty, and the tokeniser has no token to begin a text with; give a prompt")
    ids = ids or [int(known.end or 0)]
    if longest is not None and len(ids) >= longest:
        raise InputError(
            f"the prompt has {len(ids):,} tokens, and the model takes a text of {longest:,} at most with what it "
            "writes; shorten the prompt"
        )
    return ids
