"""From a model's outputs to what an app wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.runtime.manifest import Manifest
from edgekit.specs import Array


@dataclass(frozen=True)
class ClassScore:
    """A class that an input may be of.

    Attributes:
        label: Its name.
        score: Its probability, 0..1.
    """

    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """The answer to one input.

    Attributes:
        top: The likeliest classes, the best first; () where there are no classes.
        values: Name -> predicted number in its unit; {} where there are none.
        outputs: What the model said, by the name of the output, without the batch axis; with the "pixels" of a picture.
        text: What a language model wrote; None for others.
        warnings: Why the answer may be worth less than usual: the input is unlike those that the model was made for.
    """

    top: tuple[ClassScore, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, Array] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    text: str | None = None

    @property
    def label(self) -> str | None:
        """The likeliest class; None where there are no classes."""
        return self.top[0].label if self.top else None

    @property
    def score(self) -> float | None:
        """The probability of the likeliest class; None where there are no classes."""
        return self.top[0].score if self.top else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it; the outputs are listed only where there is nothing simpler to say."""
        told: dict[str, Any] = {"warnings": list(self.warnings)}
        if self.top:
            return {"label": self.label, "score": self.score, "top": [vars(c) for c in self.top], **told}
        if self.text is not None:
            return {"text": self.text, **told}
        if self.values:
            return {"values": dict(self.values), **told}
        return {"outputs": {name: np.asarray(a).tolist() for name, a in self.outputs.items()}, **told}


def answer_row(row: Mapping[str, Array], manifest: Manifest, top: int, warnings: tuple[str, ...]) -> Prediction:
    """The answer to one input.

    Args:
        row: Outputs of the model without the batch axis.
        manifest: Of its bundle.
        top: Classes to name, at most.
        warnings: Of the guard.
    """
    finishing = manifest.postprocessing
    main = row[finishing.get("output") or manifest.outputs[0].name]
    kind = finishing["kind"]
    if kind in ("softmax", "sigmoid"):
        scores = softmax(main) if kind == "softmax" else sigmoid(main)
        return Prediction(_best(scores, manifest.classes, top), {}, row, warnings)
    if kind == "regression":
        names = tuple(finishing.get("targets") or manifest.classes)
        return Prediction((), _in_units(main, finishing, names), row, warnings)
    if kind == "image":
        return Prediction((), {}, {**row, "pixels": _pixels(main, finishing)}, warnings)
    return Prediction((), {}, row, warnings)


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis, float64; no logit is too large for it."""
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    """Probabilities one by one, float64; no logit is too large for it."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def _best(scores: Array, classes: Sequence[str], top: int) -> tuple[ClassScore, ...]:
    """The likeliest classes; those without a name have their number. () for scores of many steps."""
    if scores.ndim != 1:
        return ()
    order = np.argsort(-scores, kind="stable")[:top]
    return tuple(ClassScore(classes[i] if i < len(classes) else str(i), float(scores[i])) for i in order)


def _in_units(main: Array, finishing: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    scaled = main.astype(np.float64).reshape(-1) * np.asarray(finishing.get("std", 1.0)) + np.asarray(
        finishing.get("mean", 0.0)
    )
    return {names[i] if i < len(names) else f"target {i}": float(v) for i, v in enumerate(scaled)}


def _pixels(image: Array, finishing: Mapping[str, Any]) -> Array:
    """The picture that a model made: float (channels, height, width) -> uint8 (height, width[, 3])."""
    mean, std = (np.reshape(finishing.get(k, d), (-1, 1, 1)) for k, d in (("mean", 0.0), ("std", 1.0)))
    stored = (image.astype(np.float64) * std + mean) / finishing.get("scale", 1.0)
    whole = np.rint(np.clip(stored, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
    return np.asarray(whole[..., 0] if whole.shape[-1] == 1 else whole)
