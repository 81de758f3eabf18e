"""Bundles: what an app embeds. A directory or a zip with models, manifest, pre- and postprocessing, golden answers."""

from edgekit.bundle.pack import Packed, pack_bundle
from edgekit.bundle.records import Candidate, PackOptions
from edgekit.bundle.sign import sign_bundle
from edgekit.bundle.verify import Check, Verdict, verify_bundle

__all__ = ["Candidate", "Check", "PackOptions", "Packed", "Verdict", "pack_bundle", "sign_bundle", "verify_bundle"]
