"""Checking a bundle as an app's owner would: is it whole, who signed it, and does it compute here what it should?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.expected import read_expected
from edgekit.errors import BundleError, EdgekitError, MissingPackageError
from edgekit.ort.child import ask_child
from edgekit.progress import counted, note
from edgekit.runtime.archive import MANIFEST, SIGNATURE, Archive, find_faults, read_file
from edgekit.runtime.choose import import_ort, older_than, short_provider
from edgekit.runtime.guard import read_watch
from edgekit.runtime.manifest import MOST_MANIFEST_BYTES, Manifest, Variant, read_manifest
from edgekit.runtime.opening import open_archive
from edgekit.runtime.signature import fingerprint_of, read_public, why_not_signed

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: "structure", "files", "signature", or "variant NAME".
        passed: False for a fault; None for what was not looked at.
        detail: What was found, or why it is wrong or was left out: one line.
    """

    what: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What a verification found.

    Attributes:
        bundle: Where it lies.
        provider: Which the models ran on.
        onnxruntime: Its version.
        checks: In the order in which they were made.
    """

    bundle: str
    provider: str
    onnxruntime: str
    checks: tuple[Check, ...]

    @property
    def faults(self) -> tuple[Check, ...]:
        """What is wrong."""
        return tuple(c for c in self.checks if c.passed is False)

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {
            "bundle": self.bundle,
            "ok": not self.faults,
            "provider": self.provider,
            "onnxruntime": self.onnxruntime,
            "checks": [asdict(c) for c in self.checks],
        }


def verify_bundle(
    bundle: Path, *, public_key: Path | None = None, provider: str = "cpu", key: bytes | None = None
) -> Verdict:
    """Check a bundle: its structure, the hash of every file, the signature, and each variant's golden answers here.

    Nothing of it is run before its hashes, and its signature where a key is given, were found right; every model is
    first run in a child process with limits.

    Args:
        bundle: A directory or a .zip.
        public_key: PEM file of who must have signed it; None leaves a signature unchecked.
        provider: Short or ONNX Runtime's name of the one that the models run on.
        key: Of encrypted variants; without it they are not run.

    Raises:
        BundleError: if there is no such file, or the public key cannot be used.
        MissingPackageError: if a package is missing that a check needs.
    """
    public = None if public_key is None else read_public(public_key)
    if not bundle.exists():
        raise BundleError(f"bundle {bundle} is not there; name a directory or a .zip that edgekit pack made")
    provider = short_provider(provider)
    checks = tuple(_checks(bundle, public, provider, key))
    return Verdict(str(bundle), provider, str(import_ort().__version__), checks)


def _checks(bundle: Path, public: Any, provider: str, key: bytes | None) -> Iterator[Check]:
    try:
        archive = open_archive(bundle)
    except BundleError as error:
        yield Check("structure", False, str(error))
        return
    with archive:
        try:
            content = read_file(archive, MANIFEST, MOST_MANIFEST_BYTES)
            manifest = read_manifest(content, f"{bundle}: {MANIFEST}")
        except BundleError as error:
            yield Check("structure", False, str(error))
            return
        first = [_structure(manifest), *_files(archive, manifest), _signature(archive, content, public)]
    yield from first
    for variant in manifest.variants:
        if any(c.passed is False for c in first):
            yield Check(f"variant {variant.name}", None, "not run: what is above is wrong")
        else:
            yield _variant(bundle, manifest, variant, provider, key)
    if not any(short_provider(p) == provider for v in manifest.variants for p in v.providers):
        yield Check("provider", False, f"no variant is for {provider}; see `providers` in {MANIFEST}")


def _structure(manifest: Manifest) -> Check:
    variants = counted(len(manifest.variants), "variant")
    described = f"{manifest.name} {manifest.version}, {variants}, by edgekit {manifest.edgekit}"
    try:
        samples = len(read_expected(manifest).inputs)
        read_watch(manifest.guard, MANIFEST, manifest.outputs)
    except BundleError as error:
        return Check("structure", False, str(error))
    return Check("structure", True, f"{described}, {counted(samples, 'golden sample')}")


def _files(archive: Archive, manifest: Manifest) -> list[Check]:
    files = counted(len(manifest.files), "file")
    note(f"hashing {files}")
    faults = find_faults(archive, manifest.files)
    if faults:
        return [Check("files", False, fault) for fault in faults]
    total = sum(entry.size_bytes for entry in manifest.files.values())
    return [Check("files", True, f"{files}, {total:,} bytes, each with the hash of the manifest")]


def _signature(archive: Archive, content: bytes, public: Any) -> Check:
    signed = SIGNATURE in archive.sizes
    if public is None:
        return Check("signature", None, "signed, not checked: give --key" if signed else "not signed")
    reason = why_not_signed(archive, content, public)
    return Check("signature", not reason, reason or f"by the owner of key {fingerprint_of(public)}")


def _variant(bundle: Path, manifest: Manifest, variant: Variant, provider: str, key: bytes | None) -> Check:
    """Whether a variant loads and answers as it should, asked in a child process."""
    what, version = f"variant {variant.name}", str(import_ort().__version__)
    if provider not in map(short_provider, variant.providers):
        return Check(what, None, f"not run: it is for {', '.join(map(short_provider, variant.providers))}")
    if older_than(version, variant.minimum_onnxruntime):
        needed = f"it needs ONNX Runtime {variant.minimum_onnxruntime} or newer, and {version} is installed"
        return Check(what, False, f"{needed}: pip install -U onnxruntime")
    if variant.encrypted is not None and key is None:
        return Check(what, None, "not run: it is encrypted; give --key-file or --key-env")
    note(f"running {variant.name} on {provider}")
    request = {"bundle": str(bundle.resolve()), "variant": variant.name, "provider": provider}
    if key is not None:
        request["key"] = key.hex()
    try:
        answer = ask_child("edgekit.bundle.check", request, f"variant {variant.name}", timeout_s=TIMEOUT_S)
    except MissingPackageError:
        raise
    except EdgekitError as error:
        return Check(what, False, str(error))
    return Check(what, not answer["faults"], answer["faults"][0] if answer["faults"] else answer["detail"])
