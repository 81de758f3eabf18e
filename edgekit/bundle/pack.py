"""From models to a bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.bundle.cards import write_cards
from edgekit.bundle.golden import answer_samples
from edgekit.bundle.guard import learn_guard
from edgekit.bundle.manifest import created_now
from edgekit.bundle.models import PackedModel, read_models, tensor_entries
from edgekit.bundle.preprocessing import classes_of, postprocessing_of, preprocessing_of, task_of
from edgekit.bundle.records import Candidate, PackOptions
from edgekit.bundle.samples import collect_samples, copy_tokenizer
from edgekit.bundle.sign import read_private, sign_tree
from edgekit.bundle.store import StoredVariant, store_variant
from edgekit.bundle.write import check_place, finish, place_files, writing
from edgekit.progress import note
from edgekit.runtime.manifest import SCHEMA_VERSION
from edgekit.runtime.seal import new_bundle_id


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
        variants = [
            {k: v[k] for k in ("name", "file", "precision", "size_bytes", "metric", "minimum_onnxruntime")}
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
    note(f"checking {len(candidates)} model{'s' if len(candidates) != 1 else ''}")
    models = read_models(candidates)
    first = models[0].info
    preprocessing = preprocessing_of(first.metadata, first.inputs)
    note("golden samples and tolerances")
    data = collect_samples(models[0], preprocessing, options)
    golden = answer_samples(models, data.samples, task_of(first.metadata))
    postprocessing = postprocessing_of(task_of(first.metadata), first.metadata, first.outputs, preprocessing)
    bundle_id = new_bundle_id()
    stored = [store_variant(m, options.key, bundle_id) for m in models]
    manifest = {
        **_head(models[0], options, place),
        "preprocessing": preprocessing,
        "postprocessing": postprocessing,
        "guard": learn_guard(models[0], data.seen, postprocessing),
        "variants": [s.entry for s in stored],
        "golden": golden.entry,
        "files": {},
    }
    contents = {
        **golden.files,
        **write_cards(manifest, options.training, data.source),
        **_companions(models[0], preprocessing, options),
    }
    with writing(place) as tree:
        for part in (*stored, StoredVariant({}, contents=contents)):
            place_files(tree, part.copies, part.contents)
        content = finish(tree, manifest)
        if private is not None:
            sign_tree(tree, content, private)
    files = sum(len(part.copies) + len(part.contents) for part in stored) + len(contents) + 1
    return Packed(out, manifest, files + (private is not None), _size_bytes(place))


def _companions(model: PackedModel, preprocessing: Mapping[str, Any] | None, options: PackOptions) -> dict[str, bytes]:
    """The tokeniser, of a model of text."""
    content = copy_tokenizer(model, preprocessing, options.tokenizer)
    return {} if content is None else {"preprocessing/tokenizer.json": content.encode()}


def _head(model: PackedModel, options: PackOptions, place: Path) -> dict[str, Any]:
    metadata = model.info.metadata
    return {
        "schema_version": SCHEMA_VERSION,
        "edgekit": __version__,
        "name": options.name or place.name.removesuffix(".zip"),
        "version": options.version,
        "created": created_now(),
        "description": options.description,
        "license": options.license,
        "task": task_of(metadata),
        "family": options.family or metadata.get("edgekit.family", ""),
        "classes": classes_of(metadata),
        "inputs": tensor_entries(model.info.inputs),
        "outputs": tensor_entries(model.info.outputs),
    }


def _size_bytes(place: Path) -> int:
    return place.stat().st_size if place.is_file() else sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
