"""The loop: read the prompt, then a token at a time, until something says stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from edgekit import interrupt
from edgekit.data.text.tokenizer import TextTokenizer
from edgekit.errors import DataError, ModelError
from edgekit.generate.model import LanguageModel
from edgekit.generate.sampling import Sampling

Stop = Literal["end", "stop", "max-tokens", "longest"]
_HALF = "\ufffd"  # what a part of a character is decoded to


@dataclass(frozen=True)
class Request:
    """What to write.

    Attributes:
        prompt: The text so far.
        max_tokens: Most tokens to write.
        stops: Texts at which to stop; they are not part of the answer.
        sampling: How tokens are chosen.
    """

    prompt: str
    max_tokens: int = 128
    stops: Sequence[str] = ()
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Generation:
    """What was written, and how fast.

    Attributes:
        text: Without the prompt.
        prompt_tokens: Of the prompt.
        tokens: That were written.
        stopped: Why: the end of the text, a stop text, the most tokens, or the model's longest text.
        first_token_ms: From the prompt to the first token, in ms.
        tokens_per_second: Of the tokens behind the first; None for a single one.
        cache_bytes: Memory of keys and values, or of the state, at the end; 0 for a model that remembers nothing.
    """

    text: str
    prompt_tokens: int
    tokens: int
    stopped: Stop
    first_token_ms: float
    tokens_per_second: float | None
    cache_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return asdict(self)


def generate(
    model: LanguageModel, tokenizer: TextTokenizer, request: Request, show: Callable[[str], object] = str
) -> Generation:
    """Write a text.

    Args:
        model: Fresh: it has read nothing.
        tokenizer: The one that the model was trained with.
        request: What to write.
        show: Gets each piece of the text as soon as nothing can change it any more.

    Raises:
        DataError: if the prompt is empty and the tokeniser has no token to begin with, or is too long.
        ModelError: if the tokeniser is of another model.
    """
    ids = _prompt(model, tokenizer, request.prompt)
    rng = np.random.default_rng(request.sampling.seed)
    writer = _Writer(tokenizer, request.stops, show)
    started = time.perf_counter()
    logits, first, stopped = model.read(ids), started, None
    while stopped is None:
        if interrupt.requested():
            raise KeyboardInterrupt
        token = request.sampling.draw(_known(logits, tokenizer), rng)
        if not writer.ids:
            first = time.perf_counter()
        stopped = _stopped(writer, token, request, model.longest, len(ids))
        if stopped is None:
            logits = model.read([token])
    seconds, count = time.perf_counter() - first, len(writer.ids)
    writer.finish()
    return Generation(
        text=writer.text,
        prompt_tokens=len(ids),
        tokens=count,
        stopped=stopped,
        first_token_ms=1e3 * (first - started),
        tokens_per_second=(count - 1) / seconds if count > 1 else None,
        cache_bytes=model.cache_bytes,
    )


def _stopped(writer: _Writer, token: int, request: Request, longest: int | None, prompt: int) -> Stop | None:
    """Take a token in; whether and why it was the last."""
    if token in writer.tokenizer.ends:
        writer.ids.append(token)
        return "end"
    if writer.take(token):
        return "stop"
    if len(writer.ids) >= request.max_tokens:
        return "max-tokens"
    return "longest" if longest is not None and prompt + len(writer.ids) >= longest else None


def _prompt(model: LanguageModel, tokenizer: TextTokenizer, prompt: str) -> list[int]:
    """The ids of the prompt; the end token before an empty one, as before each text of the training data."""
    if model.vocabulary is not None and tokenizer.vocabulary > model.vocabulary:
        raise ModelError(
            f"the tokeniser is of another model: it has {tokenizer.vocabulary:,} tokens, and the model knows "
            f"{model.vocabulary:,}; take the tokenizer.json that it was trained with"
        )
    ids = [int(i) for i in tokenizer.encode([prompt], special=True)[0]]
    if ids and ids[-1] in tokenizer.ends:  # what a tokeniser puts behind a whole text
        ids.pop()
    if not ids and tokenizer.end is None:
        raise DataError("the prompt is empty, and the tokeniser has no token to begin a text with; give a prompt")
    ids = ids or [int(tokenizer.end or 0)]
    if model.longest is not None and len(ids) >= model.longest:
        raise DataError(
            f"the prompt has {len(ids):,} tokens, and the model takes a text of {model.longest:,} at most with what it "
            "writes; shorten the prompt"
        )
    return ids


def _known(logits: np.ndarray[Any, Any], tokenizer: TextTokenizer) -> np.ndarray[Any, Any]:
    """The logits of tokens that have a text: a model's last ones may be filling."""
    return logits[: tokenizer.vocabulary]


class _Writer:
    """Tokens to text, piece by piece; what may yet turn out to be half a character or a stop text is held back."""

    def __init__(self, tokenizer: TextTokenizer, stops: Sequence[str], show: Callable[[str], object]) -> None:
        self.tokenizer, self.stops, self.show = tokenizer, [s for s in stops if s], show
        self.ids: list[int] = []
        self.text, self.shown = "", 0

    def take(self, token: int) -> bool:
        """Add a token; whether a stop text is complete."""
        self.ids.append(token)
        self.text = self.tokenizer.decode(self.ids)
        found = [place for place in (self.text.find(s) for s in self.stops) if place >= 0]
        if found:
            self.text = self.text[: min(found)]
            return True
        self._show(self._settled())
        return False

    def finish(self) -> None:
        """Show the rest."""
        self._show(len(self.text))

    def _show(self, end: int) -> None:
        if end > self.shown:
            self.show(self.text[self.shown : end])
            self.shown = end

    def _settled(self) -> int:
        """How much of the text no further token changes."""
        whole = self.text.rstrip(_HALF)
        return len(whole) - max((_begun(whole, stop) for stop in self.stops), default=0)


def _begun(text: str, stop: str) -> int:
    """How many characters of a stop text the end of a text may be."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
