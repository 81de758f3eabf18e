"""Signatures: who packed a bundle, by Ed25519 over the exact bytes of its manifest, which has every file's hash.

The `model-signing` package was looked at (1.1.1): it imports pyOpenSSL without declaring it, and brings 18 packages.
What is written here needs only `cryptography`, and openssl alone can check it:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub
    openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in manifest.json -sigfile manifest.sig

Source: RFC 8032 (Ed25519).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edgekit.bundle.write import is_zip, pack_tree
from edgekit.errors import BundleError, MissingPackageError
from edgekit.files import replacing
from edgekit.runtime.archive import (
    MANIFEST,
    SIGNATURE,
    Archive,
    extract_files,
    find_faults,
    open_archive,
    read_file,
)
from edgekit.runtime.manifest import MOST_MANIFEST_BYTES, read_manifest

SIGNATURE_BYTES = 64
_MAKE_PAIR = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub"


def sign_bundle(bundle: Path, key: Path) -> str:
    """Sign a bundle that is whole; an older signature is replaced.

    Args:
        bundle: A directory or a .zip.
        key: A private Ed25519 key, PEM without a password.

    Returns:
        Fingerprint of the public key (see `fingerprint_of`).

    Raises:
        BundleError: if the bundle is damaged, or the key cannot be used.
        MissingPackageError: without the cryptography package.
        OutputError: if the signature cannot be written.
    """
    private = read_private(key)
    with open_archive(bundle) as archive:
        content = read_file(archive, MANIFEST, MOST_MANIFEST_BYTES)
        manifest = read_manifest(content, f"{bundle}: {MANIFEST}")
        faults = find_faults(archive, manifest.files)
        if faults:
            raise BundleError(f"{faults[0]}; a bundle that is not whole is not signed")
        signature = private.sign(content)
        _add(bundle, archive, content, signature, manifest.files)
    return fingerprint_of(private.public_key())


def _add(bundle: Path, archive: Archive, content: bytes, signature: bytes, files: Any) -> None:
    if not is_zip(bundle) or bundle.is_dir():
        with replacing(bundle / SIGNATURE) as temporary:
            temporary.write_bytes(signature)
        return
    with replacing(bundle) as packed, tempfile.TemporaryDirectory(dir=packed.parent) as directory:
        tree = Path(directory)
        extract_files(archive, files, tree, files)
        (tree / MANIFEST).write_bytes(content)
        (tree / SIGNATURE).write_bytes(signature)
        pack_tree(tree, packed)


def sign_tree(tree: Path, manifest: bytes, private: Any) -> None:
    """Put the signature beside the manifest of a bundle that is being written."""
    (tree / SIGNATURE).write_bytes(private.sign(manifest))


def why_not_signed(archive: Archive, manifest: bytes, public: Any) -> str:
    """Why a bundle's signature is not that of the key's owner; "" if it is."""
    if SIGNATURE not in archive.sizes:
        return f"it is not signed: {SIGNATURE} is not there"
    if archive.sizes[SIGNATURE] != SIGNATURE_BYTES:
        return f"{SIGNATURE} has {archive.sizes[SIGNATURE]} bytes, and a signature has {SIGNATURE_BYTES}"
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(read_file(archive, SIGNATURE, SIGNATURE_BYTES), manifest)
    except InvalidSignature:
        return "the signature is not of this key, or the manifest was changed after it was signed"
    return ""


def read_private(path: Path) -> Any:
    """A private Ed25519 key, from a PEM file.

    Raises:
        BundleError: if it is none; the message never holds it.
        MissingPackageError: without the cryptography package.
    """
    serialization, ed25519 = _library()
    content = _content(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise BundleError(
            f"key {path} has a password; give one without: openssl pkey -in {path} -out plain.pem"
        ) from None
    except ValueError as error:
        raise BundleError(f"key {path} is no private key in PEM; make a pair: {_MAKE_PAIR}") from error
    return _of_type(key, ed25519.Ed25519PrivateKey, path)


def read_public(path: Path) -> Any:
    """A public Ed25519 key, from a PEM file.

    Raises:
        BundleError: if it is none.
        MissingPackageError: without the cryptography package.
    """
    serialization, ed25519 = _library()
    content = _content(path)
    if b"PRIVATE KEY" in content:
        raise BundleError(f"key {path} is private; verify with the public one: openssl pkey -in {path} -pubout")
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise BundleError(f"key {path} is no public key in PEM; make a pair: {_MAKE_PAIR}") from error
    return _of_type(key, ed25519.Ed25519PublicKey, path)


def fingerprint_of(public: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a public key's 32 bytes."""
    import hashlib

    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"key {path} cannot be read ({error.strerror}); make a pair: {_MAKE_PAIR}") from error


def _of_type(key: Any, wanted: type, path: Path) -> Any:
    if not isinstance(key, wanted):
        raise BundleError(f"key {path} is {type(key).__name__.strip('_')}, and edgekit signs by Ed25519: {_MAKE_PAIR}")
    return key


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise MissingPackageError(
            "signatures need the cryptography package; install it: pip install 'edgekit[crypto]'"
        ) from None
    return serialization, ed25519
