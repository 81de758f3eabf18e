"""Bundles: what an app embeds. A directory or a zip with models, manifest, pre- and postprocessing, golden answers."""

from edgekit.bundle.pack import Packed, pack_bundle
from edgekit.bundle.records import Candidate, PackOptions

__all__ = ["Candidate", "PackOptions", "Packed", "pack_bundle"]
