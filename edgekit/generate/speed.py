"""How fast models write: time to the first token, tokens a second behind it, memory of what they remember."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit import interrupt
from edgekit.data import longest_told
from edgekit.errors import DataError
from edgekit.generate.model import SessionModel
from edgekit.ort import Session


@dataclass(frozen=True)
class GenerationSpeed:
    """How fast one model writes; medians over the runs.

    Attributes:
        prompt_tokens: Of the prompt.
        tokens: That were written each time, the likeliest one always.
        runs: How often.
        first_token_ms: From the prompt to the first token.
        tokens_per_second: Of the tokens behind the first.
        cache_bytes_per_token: By which keys and values grow; 0 for a state, which does not.
        cache_bytes: Of all that it remembers, at the end of a run.
        longest: Most tokens of a text; None for no limit.
        longest_cache_bytes: Of all that it remembers of such a text; None where there is no limit.
    """

    prompt_tokens: int
    tokens: int
    runs: int
    first_token_ms: float
    tokens_per_second: float
    cache_bytes_per_token: int
    cache_bytes: int
    longest: int | None
    longest_cache_bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return asdict(self)


def measure_generation(
    sessions: Mapping[str, Session], prompt: Sequence[int], *, tokens: int = 32, min_seconds: float = 1.0
) -> dict[str, GenerationSpeed]:
    """Let models write in turns, so that what disturbs one disturbs all.

    Args:
        sessions: Of language models, by name; each remembers what it read.
        prompt: Ids.
        tokens: To write, at least 2; fewer where the longest text of a model ends before.
        min_seconds: Measuring time of each model, at least; three runs at least, behind one that does not count.

    Raises:
        DataError: if the prompt is empty or leaves no room for two tokens.
        ModelError: if one of them is no language model.
    """
    room = min((m.longest or len(prompt) + tokens for m in map(_fresh, sessions.values())), default=0)
    tokens = min(tokens, room - len(prompt))
    if not prompt or tokens < 2:
        raise DataError(
            f"a prompt of {len(prompt)} tokens leaves no room to write in, for a model that takes {room:,}; give 1 to "
            f"{room - 2:,}"
        )
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
    until = time.perf_counter() + min_seconds * len(sessions)
    for session in sessions.values():
        _write(_fresh(session), prompt, tokens)
    while time.perf_counter() < until or any(len(r) < 3 for r in runs.values()):
        for name, session in sessions.items():
            runs[name].append(_write(_fresh(session), prompt, tokens))
    return {name: _summary(_fresh(sessions[name]), runs[name], len(prompt), tokens) for name in sessions}


def _fresh(session: Session) -> SessionModel:
    """The model, which has read nothing."""
    return SessionModel(session, longest_told(session.metadata))


def _write(model: SessionModel, prompt: Sequence[int], tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and behind it to the last."""
    if interrupt.requested():
        raise KeyboardInterrupt
    started = time.perf_counter()
    token = int(model.read(prompt).argmax())
    first = time.perf_counter()
    for _ in range(tokens - 1):
        token = int(model.read([token]).argmax())
    return first - started, time.perf_counter() - first


def _summary(model: SessionModel, runs: list[tuple[float, float]], prompt: int, tokens: int) -> GenerationSpeed:
    first, rest = (float(np.median(column)) for column in zip(*runs, strict=True))
    return GenerationSpeed(
        prompt_tokens=prompt,
        tokens=tokens,
        runs=len(runs),
        first_token_ms=1e3 * first,
        tokens_per_second=(tokens - 1) / rest,
        cache_bytes_per_token=model.cache_bytes_per_token,
        cache_bytes=model.bytes_at(prompt + tokens - 1),
        longest=model.longest,
        longest_cache_bytes=None if model.longest is None else model.bytes_at(model.longest),
    )
