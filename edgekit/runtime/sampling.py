"""Choosing the next token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import InputError
from edgekit.specs import Array


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: Logits are divided by it; 0 takes the likeliest token always.
        top_k: Of so many likeliest tokens only; 0 for all.
        top_p: Of the fewest likeliest tokens that hold this share of the probability; 1 for all.
        seed: Of the random numbers.

    Raises:
        InputError: for a value out of its range.

    Source: top-k: Fan et al. 2018, arXiv:1805.04833; top-p: Holtzman et al. 2019, arXiv:1904.09751.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more, got {self.temperature}; 0 takes the likeliest token")
        if self.top_k < 0:
            raise InputError(f"top-k must be 0 (all tokens) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top-p must lie above 0 and be at most 1 (all tokens), got {self.top_p}")

    def draw(self, logits: Array, rng: np.random.Generator) -> int:
        """The id of the next token: logits (vocabulary,) -> 0..vocabulary - 1."""
        if self.temperature == 0:
            return int(logits.argmax())
        return int(rng.choice(len(logits), p=self.probabilities(logits)))

    def probabilities(self, logits: Array) -> Array:
        """What is drawn from: float64 (vocabulary,), 0 for the tokens that are left out."""
        scaled = logits.astype(np.float64) / self.temperature
        if 0 < self.top_k < len(scaled):
            scaled[np.argsort(-scaled, kind="stable")[self.top_k :]] = -np.inf
        odds = np.exp(scaled - scaled.max())
        shares = odds / odds.sum()
        if self.top_p < 1:
            order = np.argsort(-shares, kind="stable")
            before = np.cumsum(shares[order]) - shares[order]
            shares[order[before >= self.top_p]] = 0
        return np.asarray(shares / shares.sum())
