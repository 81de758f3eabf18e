"""Who packed a bundle: an Ed25519 signature over the exact bytes of its manifest, which has every file's hash.

The public key that checks a signature is no secret, and is another thing than the key that encrypted models open with
(see `runtime.seal`).

Source: RFC 8032 (Ed25519).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.errors import BundleError, MissingPackageError
from edgekit.runtime.archive import SIGNATURE, Archive, read_file

SIGNATURE_BYTES = 64
MAKE_PAIR = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub"
_PEM_START = "-----BEGIN"


def require_signature(archive: Archive, manifest: bytes, public_key: str | Path | bytes) -> None:
    """Refuse a bundle that the owner of a key has not signed.

    Args:
        archive: Its files.
        manifest: The bytes of its manifest.
        public_key: As `read_public` takes it.

    Raises:
        BundleError: if there is no signature, or it is of another key or manifest; if the key cannot be used.
        MissingPackageError: without the cryptography package.
    """
    reason = why_not_signed(archive, manifest, read_public(public_key))
    if reason:
        raise BundleError(f"bundle {archive.path}: {reason}; get it from who has the key's other half")


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


def read_public(source: str | Path | bytes) -> Any:
    """A public Ed25519 key.

    Args:
        source: A PEM file, or what one holds.

    Raises:
        BundleError: if it is none.
        MissingPackageError: without the cryptography package.
    """
    serialization, ed25519 = import_ed25519()
    content, title = _pem_of(source)
    if b"PRIVATE KEY" in content:
        raise BundleError(f"{title} is private; verify with the public one: openssl pkey -in key.pem -pubout")
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise BundleError(
            f"{title} is no public key in PEM; the key of encrypted models is another one (--key-file, --key-env); "
            f"make a pair: {MAKE_PAIR}"
        ) from error
    return require_ed25519(key, ed25519.Ed25519PublicKey, title)


def fingerprint_of(public: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a public key's 32 bytes."""
    import hashlib

    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def read_key_file(path: Path) -> bytes:
    """What a file of a key holds.

    Raises:
        BundleError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"key {path} cannot be read ({error.strerror}); make a pair: {MAKE_PAIR}") from error


def require_ed25519(key: Any, wanted: type, title: str) -> Any:
    """The key, if it is of this type.

    Raises:
        BundleError: for any other.
    """
    if not isinstance(key, wanted):
        raise BundleError(f"{title} is {type(key).__name__.strip('_')}, and edgekit signs by Ed25519: {MAKE_PAIR}")
    return key


def import_ed25519() -> tuple[Any, Any]:
    """What cryptography has for PEM files, and for Ed25519.

    Raises:
        MissingPackageError: without that package.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise MissingPackageError(
            "signatures need the cryptography package; install it: pip install 'edgekit[crypto]'"
        ) from None
    return serialization, ed25519


def _pem_of(source: str | Path | bytes) -> tuple[bytes, str]:
    """The text of a PEM file, and what to call it in messages."""
    if isinstance(source, str) and source.lstrip().startswith(_PEM_START):
        source = source.encode()
    return (source, "the public key") if isinstance(source, bytes) else (read_key_file(Path(source)), f"key {source}")
