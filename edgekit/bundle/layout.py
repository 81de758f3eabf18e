"""Where the files of a bundle lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekit.bundle.records import Candidate


@dataclass(frozen=True)
class Layout:
    """Places and further files of a bundle.

    Attributes:
        candidates: The variants, as files that fit the layout.
        places: Variant -> path of its .onnx file in the bundle; models/VARIANT/model.onnx where it is not there.
        tokenizer: Path of the tokeniser in the bundle.
        further: Path in the bundle -> content of what only this layout has.
    """

    candidates: tuple[Candidate, ...]
    places: Mapping[str, str] = field(default_factory=dict)
    tokenizer: str = "preprocessing/tokenizer.json"
    further: Mapping[str, bytes] = field(default_factory=dict)


def own_layout(candidates: Sequence[Candidate]) -> Layout:
    """Edgekit's own: a folder for each variant."""
    return Layout(tuple(candidates))
