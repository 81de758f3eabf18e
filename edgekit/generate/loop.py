"""Text out of a language model as an app writes it, with the time that it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from edgekit import interrupt
from edgekit.data.text.tokenizer import TextTokenizer
from edgekit.errors import ModelError
from edgekit.generate.model import LanguageModel
from edgekit.runtime.writing import Request, Stop, write_text


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
        InputError: if the prompt is empty and the tokeniser has no token to begin with, or is too long.
        ModelError: if the tokeniser is of another model.
    """
    _refuse_other_tokenizer(model, tokenizer)
    drawn_at: list[float] = []

    def drawn() -> None:
        if interrupt.requested():
            raise KeyboardInterrupt
        drawn_at.append(time.perf_counter())

    started = time.perf_counter()
    written = write_text(model, tokenizer, request, longest=model.longest, show=show, drawn=drawn)
    seconds = drawn_at[-1] - drawn_at[0]
    return Generation(
        **vars(written),
        first_token_ms=1e3 * (drawn_at[0] - started),
        tokens_per_second=(written.tokens - 1) / seconds if written.tokens > 1 else None,
        cache_bytes=model.cache_bytes,
    )


def _refuse_other_tokenizer(model: LanguageModel, tokenizer: TextTokenizer) -> None:
    known = tokenizer.vocabulary  # counted here, so that it takes no time of the first token
    if model.vocabulary is not None and known > model.vocabulary:
        raise ModelError(
            f"the tokeniser is of another model: it has {known:,} tokens, and the model knows "
            f"{model.vocabulary:,}; take the tokenizer.json that it was trained with"
        )
