"""How a variant lies in a bundle: as it is, or sealed with a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.bundle.models import PackedModel, variant_entry
from edgekit.errors import BundleError
from edgekit.graph.read import proto_bytes, read_model
from edgekit.progress import note
from edgekit.runtime.seal import ALGORITHM, SUFFIX, seal

_MOST_BYTES = 1_900_000_000  # that one ONNX file holds


@dataclass(frozen=True)
class StoredVariant:
    """A variant's part of a bundle.

    Attributes:
        entry: What the manifest says of it.
        copies: Path in the bundle -> file to copy.
        contents: Path in the bundle -> content.
    """

    entry: dict[str, Any]
    copies: Mapping[str, Path] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict)


def store_variant(model: PackedModel, key: bytes | None, bundle_id: str) -> StoredVariant:
    """A variant as it goes into the bundle.

    Args:
        model: Read and checked.
        key: That it is sealed with; None leaves it as it is.
        bundle_id: That sealed files are bound to.

    Raises:
        BundleError: if it is too large to be sealed.
        MissingPackageError: if it is to be sealed, without the cryptography package.
    """
    entry = variant_entry(model)
    if key is None:
        return StoredVariant(entry, copies=model.files)
    return sealed(entry, _whole(model), key, bundle_id)


def store_variants(models: Sequence[PackedModel], key: bytes | None, bundle_id: str) -> tuple[StoredVariant, ...]:
    """All variants as they go into the bundle; of those that are the same byte for byte, the file goes in once.

    Raises:
        BundleError: as `store_variant`.
        MissingPackageError: as `store_variant`.
    """
    first: dict[object, StoredVariant] = {}
    stored = []
    for model in models:
        same = first.get(model.content)
        stored.append(store_variant(model, key, bundle_id) if same is None else twin_of(variant_entry(model), same))
        first.setdefault(model.content, stored[-1])
    return tuple(stored)


def twin_of(entry: Mapping[str, Any], same: StoredVariant) -> StoredVariant:
    """A variant whose file is there already, under another variant's name."""
    note(f"{entry['name']} is {same.entry['name']}, byte for byte; it is stored once")
    return StoredVariant({**entry, **{key: same.entry[key] for key in ("file", "encrypted", "size_bytes")}})


def sealed(entry: Mapping[str, Any], content: bytes, key: bytes, bundle_id: str) -> StoredVariant:
    """A variant whose file only who has the key can read."""
    name = f"{entry['file']}{SUFFIX}"
    packed = seal(content, key, bundle_id, name)
    how = {"algorithm": ALGORITHM, "bundle_id": bundle_id}
    return StoredVariant({**entry, "file": name, "encrypted": how, "size_bytes": len(packed)}, contents={name: packed})


def _whole(model: PackedModel) -> bytes:
    """The model in one piece, external data inside."""
    path = model.candidate.path
    if not model.external:
        return path.read_bytes()
    proto = read_model(path)
    if proto_bytes(proto) > _MOST_BYTES:
        raise BundleError(
            f"variant {model.name!r} has {model.info.size_bytes:,} bytes, and one sealed file holds {_MOST_BYTES:,}; "
            "quantise it, or pack it without --encrypt"
        )
    return proto.SerializeToString(deterministic=True)
