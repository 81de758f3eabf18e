"""From what a model file says of itself to the manifest's pre- and postprocessing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.data import ImagePreprocessing, longest_told, our_task
from edgekit.data.text.beside import told_of
from edgekit.data.text.tokenizer import FILE
from edgekit.runtime.image import WHITE
from edgekit.specs import TEXT_INPUTS, TensorSpec

_FOLDER = "preprocessing"


def preprocessing_of(metadata: Mapping[str, str], inputs: Sequence[TensorSpec]) -> dict[str, Any] | None:
    """How raw samples become inputs; None where arrays go in as they are.

    Args:
        metadata: Of the model file.
        inputs: Of the model.
    """
    told = _told(metadata)
    if told.get("kind") == "image":
        picture = next((s for s in inputs if s.rank == 4), None)
        return None if picture is None else _image(told, picture.name)
    if told.get("kind") == "series":
        series = next((s for s in inputs if s.rank == 3), None)
        lengths = next((s.name for s in inputs if s.name == "lengths"), None)
        return None if series is None else {**told, "input": series.name, "lengths": lengths}
    if not told and "edgekit.tokenizer" in metadata and any(s.name in TEXT_INPUTS["ids"] for s in inputs):
        told = {"kind": "text", **told_of(metadata), "length": longest_told(metadata), "truncate": False}
    if told.get("kind") == "pairs":
        target = str(told.get("target_tokenizer", FILE)).rpartition("/")[-1]
        return {**told, "tokenizer": f"{_FOLDER}/{FILE}", "target_tokenizer": f"{_FOLDER}/{target}"}
    return _text(told, inputs) if told.get("kind") == "text" else None


def _told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the file says of its preprocessing; another tool's entry of the same name says nothing."""
    try:
        found = json.loads(metadata.get("edgekit.preprocessing", "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _image(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """For pictures of 8 bits, whose white is 255: digits were trained on 0..16, and no file holds such pixels."""
    stored = ImagePreprocessing.of(told)
    resize = stored.resize or (stored.height, stored.width)
    scale = 1 / WHITE if stored.scale > 1 / WHITE else stored.scale
    return {**stored.as_dict(), "input": name, "scale": scale, "resize": list(resize), "resample": stored.resample}


def _text(told: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    names = [s.name for s in inputs]
    keys = ("vocabulary", "tokenizer_sha256", "length", "truncate")
    kept = {k: told[k] for k in keys if told.get(k) is not None}
    return {
        "kind": "text",
        "tokenizer": f"{_FOLDER}/{FILE}",
        **kept,
        **{role: _first(names, wanted) for role, wanted in TEXT_INPUTS.items()},
    }


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def postprocessing_of(
    task: str, metadata: Mapping[str, str], outputs: Sequence[TensorSpec], preprocessing: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the first output means.

    Args:
        task: As edgekit calls it; "" where it is not known.
        metadata: Of the model file.
        outputs: Of the model.
        preprocessing: The manifest's entry.
    """
    entry: dict[str, Any] = {"kind": _KINDS.get(task, "none"), "output": outputs[0].name if outputs else ""}
    if entry["kind"] == "regression":
        # the exported graph answers in the unit of the labels already
        return {**entry, "targets": classes_of(metadata), "mean": 0.0, "std": 1.0}
    if entry["kind"] == "image":
        pixels = preprocessing or _image(told, "") if (told := _told(metadata)).get("kind") == "image" else None
        return {**entry, "kind": "none"} if pixels is None else {**entry, **_range(pixels)}
    return entry


_KINDS = {
    "classification": "softmax",
    "step-classification": "softmax",
    "regression": "regression",
    "reconstruction": "image",
    "generation": "image",
    "language-modelling": "tokens",
    "masked-language-modelling": "tokens",
    "sequence-to-sequence": "tokens",
}


def _range(pixels: Mapping[str, Any]) -> dict[str, Any]:
    """What turns outputs into pixels: (output * std + mean) / scale."""
    return {k: pixels[k] for k in ("height", "width", "channels", "scale", "mean", "std")}


def classes_of(metadata: Mapping[str, str]) -> list[str]:
    """Names of the classes, or of the targets; [] where the file says none."""
    try:
        found = json.loads(metadata.get("edgekit.classes", "[]"))
    except ValueError:
        return []
    return [str(c) for c in found] if isinstance(found, list) else []


def task_of(metadata: Mapping[str, str]) -> str:
    """What the model does, as edgekit calls it; "" where the file does not say."""
    return our_task(metadata.get("edgekit.task", ""))
