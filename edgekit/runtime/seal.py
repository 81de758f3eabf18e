"""Models that only who has the key can read: AES-256-GCM, a file by itself.

A sealed file is 12 bytes of nonce, the ciphertext, and 16 bytes of tag. The associated data names the bundle and the
file's place in it, so that no sealed file opens in another place or bundle, even under the same key.

Source: NIST SP 800-38D (GCM; random 96-bit nonces), RFC 5116.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError, MissingPackageError

ALGORITHM = "AES-256-GCM"
SUFFIX = ".enc"
KEY_BYTES, _NONCE_BYTES = 32, 12
_HEX = re.compile(rb"[0-9a-fA-F]{64}")
_MAKE_ONE = "make one with: openssl rand -hex 32"


def read_key(file: Path | None, variable: str | None) -> bytes | None:
    """The key from a file or an environment variable; None where neither is named.

    Args:
        file: Holds 32 bytes, or 64 hexadecimal digits.
        variable: Name of an environment variable with 64 hexadecimal digits.

    Raises:
        BundleError: if there is no key, or it is of another length; the message never holds it.
    """
    if file is not None:
        try:
            return _key(file.read_bytes(), f"key file {file}")
        except OSError as error:
            raise BundleError(f"key file {file} cannot be read ({error.strerror}); {_MAKE_ONE}") from error
    if variable is None:
        return None
    if variable not in os.environ:
        raise BundleError(f"environment variable {variable} is not set; it must hold the key, 64 hexadecimal digits")
    return _key(os.environ[variable].encode(), f"environment variable {variable}")


def _key(content: bytes, where: str) -> bytes:
    if len(content) == KEY_BYTES:
        return content
    if _HEX.fullmatch(content.strip()):
        return bytes.fromhex(content.strip().decode())
    if b"PUBLIC KEY" in content:
        raise BundleError(f"{where} is a public key, which checks signatures: load(..., public_key=...) or --key")
    raise BundleError(
        f"{where} holds {len(content)} bytes that are no key; a key is 32 bytes, or 64 hexadecimal digits: {_MAKE_ONE}"
    )


def new_bundle_id() -> str:
    """What sealed files are bound to."""
    return secrets.token_hex(16)


def seal(content: bytes, key: bytes, bundle_id: str, name: str) -> bytes:
    """Seal a file.

    Args:
        content: Its bytes.
        key: 32 bytes.
        bundle_id: Of the bundle.
        name: Its path in the bundle.

    Raises:
        MissingPackageError: without the cryptography package.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + bytes(_cipher(key).encrypt(nonce, content, _bound_to(bundle_id, name)))


def open_variant(content: bytes, key: str | bytes | None, how: Mapping[str, Any], name: str) -> bytes:
    """What a variant's sealed file holds.

    Args:
        content: Of the file.
        key: 32 bytes, or 64 hexadecimal digits.
        how: What the manifest says of it.
        name: Its path in the bundle.

    Raises:
        BundleError: as `open_sealed`, or if it is sealed in a way that is not known here.
    """
    if how.get("algorithm") != ALGORITHM or not isinstance(how.get("bundle_id"), str):
        raise BundleError(f"{name} is encrypted by {str(how.get('algorithm'))[:40]!r}; this edgekit opens {ALGORITHM}")
    plain = _key(key.encode(), "the key") if isinstance(key, str) else key
    return open_sealed(content, plain, how["bundle_id"], name)


def open_sealed(content: bytes, key: bytes | None, bundle_id: str, name: str) -> bytes:
    """What a sealed file holds, in memory.

    Raises:
        BundleError: without a key, or with another one; if the file is of another place or was changed.
        MissingPackageError: without the cryptography package.
    """
    if key is None:
        raise BundleError(f"{name} is encrypted; give its key: load(..., key=...), --key-file or --key-env")
    if len(key) != KEY_BYTES:
        raise BundleError(f"the key has {len(key)} bytes; {ALGORITHM} takes {KEY_BYTES}")
    cipher, nonce = _cipher(key), content[:_NONCE_BYTES].ljust(_NONCE_BYTES, b"\0")  # of what is too short: any
    from cryptography.exceptions import InvalidTag

    try:
        opened = cipher.decrypt(nonce, content[_NONCE_BYTES:], _bound_to(bundle_id, name))
    except InvalidTag:
        raise BundleError(
            f"{name} does not open with this key: it is another key, or the file is of another bundle or was changed"
        ) from None
    return bytes(opened)


def _bound_to(bundle_id: str, name: str) -> bytes:
    return f"edgekit-bundle:{bundle_id}:{name}".encode()


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError:
        raise MissingPackageError(
            "encrypted models need the cryptography package; install it: pip install 'edgekit[crypto]'"
        ) from None
    return AESGCM(key)
