"""Where the files of a bundle lie.

A bundle is no "model package" of ONNX Runtime, which has a manifest.json of its own: schema_version "1.0" as text, and
no other keys than package_name, components, shared_assets and a few more, so that one file cannot be both (see
model_package/README.md of microsoft/onnxruntime; its parser refuses unknown keys). The folders would fit:
models/VARIANT is what it calls a variant_directory, and one more file, models/manifest.json, could make `models` such a
package. It is not written: the C API that reads it is marked experimental in 1.31, Python has none, and what cannot be
opened in a test is not promised.
"""

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
