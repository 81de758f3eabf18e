"""Everything that goes into a bundle, gathered before a byte of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit import __version__
from edgekit.bundle.cards import write_cards
from edgekit.bundle.golden import Golden, answer_samples
from edgekit.bundle.guard import learn_guard
from edgekit.bundle.layout import Layout
from edgekit.bundle.manifest import created_now
from edgekit.bundle.models import PackedModel, tensor_entries
from edgekit.bundle.ort_format import CONFIG, add_ort_variants
from edgekit.bundle.preprocessing import classes_of, postprocessing_of, preprocessing_of, task_of
from edgekit.bundle.records import PackOptions
from edgekit.bundle.samples import GoldenData, collect_samples, copy_tokenizers
from edgekit.bundle.store import StoredVariant, store_variants
from edgekit.progress import note
from edgekit.runtime.manifest import SCHEMA_VERSION
from edgekit.runtime.seal import new_bundle_id
from edgekit.runtime.single import loader_source

LOADER = "loader.py"


@dataclass(frozen=True)
class Assembly:
    """A bundle that is ready to be written.

    Attributes:
        manifest: Without its list of files.
        parts: The files: variants first, then what belongs to all of them.
    """

    manifest: dict[str, Any]
    parts: tuple[StoredVariant, ...]


def assemble(models: Sequence[PackedModel], layout: Layout, options: PackOptions, name: str) -> Assembly:
    """Gather a bundle's files and what its manifest says.

    Args:
        models: The variants, read and checked.
        layout: Where files lie.
        options: How to pack.
        name: Of the bundle.

    Raises:
        EdgekitError: as samples, golden answers, sealing and converting raise it.
    """
    first = models[0].info
    preprocessing = preprocessing_of(first.metadata, first.inputs)
    if preprocessing is not None and preprocessing["kind"] == "text":
        preprocessing = {**preprocessing, "tokenizer": layout.tokenizer}
    postprocessing = postprocessing_of(task_of(first.metadata), first.metadata, first.outputs, preprocessing)
    note("golden samples and tolerances")
    data = collect_samples(models[0], preprocessing, options)
    stored, golden, config = _store(models, data, options)
    manifest = {
        **_head(models[0], options, name),
        "preprocessing": preprocessing,
        "postprocessing": postprocessing,
        "guard": learn_guard(models[0], data.seen, postprocessing),
        "variants": [variant.entry for variant in stored],
        "golden": golden.entry,
        "files": {},
    }
    cards = write_cards(manifest, options.training, data.source)
    tokenizer = copy_tokenizers(models[0], preprocessing, options.tokenizer)
    loader = {LOADER: loader_source().encode()} if options.loader else {}
    shared = {**golden.files, **config, **cards, **tokenizer, **loader, **layout.further}
    return Assembly(manifest, (*stored, StoredVariant({}, contents=shared)))


def _store(
    models: Sequence[PackedModel], data: GoldenData, options: PackOptions
) -> tuple[tuple[StoredVariant, ...], Golden, dict[str, bytes]]:
    """The variants as they lie in the bundle, their golden answers, and what a reduced build needs to know."""
    golden = answer_samples(models, data.samples, task_of(models[0].info.metadata))
    bundle_id = new_bundle_id()
    stored = store_variants(models, options.key, bundle_id)
    if not options.ort:
        return stored, golden, {}
    note("converting to ORT format")
    more = add_ort_variants(models, data.samples, golden, options.key, bundle_id)
    return (*stored, *more.stored), more.golden, {CONFIG: more.config}


def _head(model: PackedModel, options: PackOptions, name: str) -> dict[str, Any]:
    metadata = model.info.metadata
    return {
        "schema_version": SCHEMA_VERSION,
        "edgekit": __version__,
        "name": name,
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
