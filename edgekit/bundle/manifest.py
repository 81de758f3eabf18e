"""The manifest of a bundle: everything that an app has to know, in one JSON file beside the models."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from edgekit.errors import BundleError
from edgekit.runtime.manifest import Manifest

_ORDER = ("schema_version", *Manifest.__dataclass_fields__)


def created_now() -> str:
    """Now in UTC, or what SOURCE_DATE_EPOCH says, which makes two packings of the same files the same bytes.

    Source: reproducible-builds.org, SOURCE_DATE_EPOCH specification.

    Raises:
        BundleError: if that variable holds no number of seconds.
    """
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said is None:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        return datetime.fromtimestamp(int(said), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        raise BundleError(f"SOURCE_DATE_EPOCH is {said!r}; it must be seconds since 1970, or not be set") from None


def manifest_bytes(content: Mapping[str, Any]) -> bytes:
    """The exact bytes of manifest.json: UTF-8, the keys in the order in which a person reads them, files sorted."""
    ordered = {key: content[key] for key in _ORDER}
    ordered["files"] = dict(sorted(content["files"].items()))
    text = json.dumps(_finite(ordered), indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON does not have: what was not a number is null."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
