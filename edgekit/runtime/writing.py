"""Text out of a language model, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from edgekit.errors import InputError
from edgekit.runtime.sampling import Sampling
from edgekit.runtime.texts import check_text
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.specs import Array

Stop = Literal["end", "stop", "max-tokens", "longest"]
_HALF = "\ufffd"  # what a part of a character is decoded to


@dataclass(frozen=True)
class Request:
    """What to write.

    Attributes:
        prompt: The text so far; "" begins anew.
        max_tokens: Most tokens to write.
        stops: Texts at which to stop; they are no part of the answer.
        sampling: How tokens are chosen.
    """

    prompt: str
    max_tokens: int = 128
    stops: Sequence[str] = ()
    sampling: Sampling = field(default_factory=Sampling)


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
    stopped: Stop


class Reader(Protocol):
    """A language model that has read some tokens."""

    def read(self, ids: Sequence[int]) -> Array:
        """Read further tokens; the logits of the next one, (vocabulary,)."""
        ...


@dataclass
class _Draft:
    """A text that grows; what may yet turn out to be half a character or a stop text is not shown."""

    known: Tokenizer
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
    model: Reader,
    known: Tokenizer,
    request: Request,
    *,
    longest: int | None,
    show: Callable[[str], object] = str,
    drawn: Callable[[], object] = str,
) -> Written:
    """Go on from a prompt.

    Args:
        model: Fresh: it has read nothing.
        known: The tokeniser.
        request: What to write.
        longest: The longest text in tokens; None for any.
        show: Gets each piece as soon as nothing can change it any more.
        drawn: Called as soon as a token is chosen, for whoever counts or stops.

    Raises:
        InputError: if the prompt is no text or too long, or max_tokens below 1.
    """
    if request.max_tokens < 1:
        raise InputError(f"max_tokens must be 1 or more, got {request.max_tokens}")
    ids = _prompt_ids(known, request.prompt, longest)
    draft = _Draft(known, [stop for stop in request.stops if stop], show, [])
    room = request.max_tokens if longest is None else min(request.max_tokens, longest - len(ids))
    rng, logits, stopped = np.random.default_rng(request.sampling.seed), model.read(ids), None
    while stopped is None:
        token = request.sampling.draw(logits[: known.vocabulary], rng)  # a model's last logits may be filling
        drawn()
        stopped = _stopped(draft, token, request.max_tokens, room)
        if stopped is None:
            logits = model.read([token])
    draft.show_up_to(len(draft.text))
    return Written(draft.text, len(ids), len(draft.ids), stopped)


def _stopped(draft: _Draft, token: int, most: int, room: int) -> Stop | None:
    """Take a token in; whether and why it was the last, for a text with room for so many."""
    if token in draft.known.ends:
        draft.ids.append(token)
        return "end"
    if draft.take(token):
        return "stop"
    if len(draft.ids) >= most:
        return "max-tokens"
    return "longest" if len(draft.ids) >= room else None


def _prompt_ids(known: Tokenizer, prompt: Any, longest: int | None) -> list[int]:
    """The ids of the prompt; the end token before an empty one, as before each text of the training data."""
    if not isinstance(prompt, str):
        raise InputError(f"a prompt is a text, got {type(prompt).__name__}")
    check_text(prompt)
    ids = known.ids_of(prompt)
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
