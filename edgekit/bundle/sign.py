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
from edgekit.errors import BundleError
from edgekit.files import replacing
from edgekit.runtime.archive import (
    MANIFEST,
    SIGNATURE,
    Archive,
    extract_files,
    find_faults,
    read_file,
)
from edgekit.runtime.manifest import MOST_MANIFEST_BYTES, read_manifest
from edgekit.runtime.opening import open_archive
from edgekit.runtime.signature import MAKE_PAIR, fingerprint_of, import_ed25519, read_key_file, require_ed25519


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


def read_private(path: Path) -> Any:
    """A private Ed25519 key, from a PEM file.

    Raises:
        BundleError: if it is none; the message never holds it.
        MissingPackageError: without the cryptography package.
    """
    serialization, ed25519 = import_ed25519()
    content = read_key_file(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise BundleError(
            f"key {path} has a password; give one without: openssl pkey -in {path} -out plain.pem"
        ) from None
    except ValueError as error:
        raise BundleError(f"key {path} is no private key in PEM; make a pair: {MAKE_PAIR}") from error
    return require_ed25519(key, ed25519.Ed25519PrivateKey, f"key {path}")
