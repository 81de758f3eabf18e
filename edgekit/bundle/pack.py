"""From models to a bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.assemble import assemble
from edgekit.bundle.expected import read_expected
from edgekit.bundle.layout import Layout, own_layout
from edgekit.bundle.models import read_models
from edgekit.bundle.records import Candidate, PackOptions
from edgekit.bundle.sign import read_private, sign_tree
from edgekit.bundle.transformers_js import transformers_js_layout
from edgekit.bundle.write import check_place, finish, place_files, writing
from edgekit.errors import BundleError
from edgekit.progress import counted, note
from edgekit.runtime.archive import MANIFEST
from edgekit.runtime.choose import short_provider
from edgekit.runtime.guard import read_watch
from edgekit.runtime.manifest import read_manifest
from edgekit.runtime.names import Limits, check_files


@dataclass(frozen=True)
class Packed:
    """A bundle that was written.

    Attributes:
        path: Where it lies.
        manifest: Its manifest, without the list of files.
        files: How many it has.
        size_bytes: Of the directory's files, or of the zip.
    """

    path: Path
    manifest: Mapping[str, Any]
    files: int
    size_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        told = ("name", "version", "task", "family")
        keys = ("name", "file", "target", "precision", "size_bytes", "metric", "minimum_onnxruntime")
        variants = [
            {**{k: v[k] for k in keys}, "providers": [short_provider(p) for p in v["providers"]]}
            for v in self.manifest["variants"]
        ]
        return {
            "out": str(self.path),
            **{k: self.manifest[k] for k in told},
            "variants": variants,
            "golden_samples": len(self.manifest["golden"]["samples"]),
            "tolerance": self.manifest["golden"]["tolerance"],
            "files": self.files,
            "size_bytes": self.size_bytes,
        }


def pack_bundle(candidates: Sequence[Candidate], out: Path, options: PackOptions | None = None) -> Packed:
    """Pack models that take and give the same into one bundle.

    Args:
        candidates: The variants, the one to prefer first.
        out: A directory, or a .zip; a bundle that is there is replaced, anything else is left alone.
        options: What to say of it, and where its golden samples come from.

    Raises:
        BundleError: if the models cannot be one bundle.
        ModelError: if one of them cannot be used.
        DataError: if the data does not fit.
        OutputError: if it cannot be written; then nothing is left behind.
    """
    options, place = options or PackOptions(), Path(os.path.abspath(out))
    check_place(place)
    private = None if options.signer is None else read_private(options.signer)
    if candidates:
        note(f"checking {counted(len(candidates), 'model')}")
    with _laid_out(candidates, options) as layout, writing(place) as tree:
        models = read_models(layout.candidates, layout.places)
        made = assemble(models, layout, options, options.name or place.name.removesuffix(".zip"))
        for part in made.parts:
            place_files(tree, part.copies, part.contents)
        content = finish(tree, made.manifest)
        _check_readable(content, place)
        if private is not None:
            sign_tree(tree, content, private)
        files = sum(1 for p in tree.rglob("*") if p.is_file())
    return Packed(out, made.manifest, files, _size_bytes(place))


def _check_readable(content: bytes, place: Path) -> None:
    """What is written can be opened: names that no system takes, and facts that contradict each other, end here.

    Raises:
        BundleError: says what an app would say.
    """
    try:
        manifest = read_manifest(content)
        check_files(place, {name: entry.size_bytes for name, entry in manifest.files.items()}, Limits())
        read_watch(manifest.guard, MANIFEST, manifest.outputs)
        read_expected(manifest)
    except BundleError as error:
        raise BundleError(f"no app could open this bundle: {str(error).partition(';')[0]}; mend the model") from error


def _laid_out(candidates: Sequence[Candidate], options: PackOptions) -> AbstractContextManager[Layout]:
    if options.layout == "transformers.js":
        return transformers_js_layout(candidates, options)
    return nullcontext(own_layout(candidates))


def _size_bytes(place: Path) -> int:
    return place.stat().st_size if place.is_file() else sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
