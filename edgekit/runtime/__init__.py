"""What an app embeds: a bundle's model, its preprocessing and its answers, on numpy and ONNX Runtime alone.

from edgekit.runtime import load

with load("digits.zip") as model:
    print(model.predict("seven.png").label)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.runtime.answers import ClassScore, Prediction
from edgekit.runtime.manifest import Manifest, Variant, read_manifest
from edgekit.runtime.model import Model, load

if TYPE_CHECKING:
    from edgekit.runtime.batcher import MicroBatcher
    from edgekit.runtime.writing import Written

__all__ = [
    "ClassScore",
    "Manifest",
    "MicroBatcher",
    "Model",
    "Prediction",
    "Variant",
    "Written",
    "load",
    "read_manifest",
]


def __getattr__(name: str) -> Any:
    """What a single answer does without is imported by whoever uses it."""
    if name == "MicroBatcher":
        from edgekit.runtime.batcher import MicroBatcher

        return MicroBatcher
    if name == "Written":
        from edgekit.runtime.writing import Written

        return Written
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
