"""Is a text like those that the model was made for? The more pairs of neighbouring tokens are new, the less it is.

The pairs of calibration texts are kept as one bit for the hash of each (Bloom 1970, "Space/time trade-offs in hash
coding with allowable errors"), so that no text stands in a bundle. What counts is the share of a text's pairs that no
calibration text has. It notices other languages, noise and encoded bytes; it notices neither another subject in the
same language nor what a tokeniser turns into unknown tokens.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.runtime.fields import Fields
from edgekit.runtime.thresholds import LEAST_SAMPLES, Finding, Threshold, find_unusual, read_threshold, threshold_entry
from edgekit.specs import TEXT_INPUTS, Array, Feeds

_LEAST_PAIRS = 16  # of shorter texts the share is chance
_LEAST_BITS, _MOST_BITS = 12, 20
_SPARSE = 4  # places for each pair, so that few new pairs are taken for known ones
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio: Knuth, The Art of Computer Programming, 6.4


@dataclass(frozen=True)
class TokenPairs:
    """The pairs of calibration texts.

    Attributes:
        input: Name of the input for ids.
        known: Whether a pair has this hash: bool (power of two,).
        threshold: Of the share of new pairs.
    """

    input: str
    known: Array
    threshold: Threshold


def pair_statistics(inputs: Feeds) -> dict[str, Any] | None:
    """What texts look like, for a manifest.

    Each text's share is of the pairs that no other text has: with its own, it would have no new one.

    Args:
        inputs: Of the calibration split: name -> (n, ...).

    Returns:
        {"input", "known", "threshold_warn", "threshold_error"}; None where there are too few texts of some length.
    """
    name = _ids_name(inputs)
    if name is None or inputs[name].ndim != 2:
        return None
    rows = [own_ids({key: array[i] for key, array in inputs.items()}, name) for i in range(len(inputs[name]))]
    rows = [ids for ids in rows if len(ids) > _LEAST_PAIRS]
    if len(rows) < LEAST_SAMPLES:
        return None
    places = [_places(ids, _bits_for(rows)) for ids in rows]
    texts = np.zeros(1 << _bits_for(rows), np.int64)
    for own in places:
        texts[np.unique(own)] += 1
    shares = np.array([float((texts[own] < 2).mean()) for own in places])
    known = base64.b64encode(np.packbits(texts > 0).tobytes()).decode("ascii")
    return {"input": name, "known": known, **threshold_entry(shares, most=1.0)}


def read_pairs(fields: Fields | None) -> TokenPairs | None:
    """A manifest's entry, ready to be compared with.

    Raises:
        BundleError: if it is damaged; the message names the field.
    """
    if fields is None:
        return None
    try:
        packed = base64.b64decode(fields.text("known"), validate=True)
    except ValueError:
        packed = b""
    bits = (8 * len(packed)).bit_length() - 1
    if not _LEAST_BITS <= bits <= _MOST_BITS or 8 * len(packed) != 1 << bits:
        raise fields.wrong("known", f"must be 2^{_LEAST_BITS} to 2^{_MOST_BITS} bits in base64")
    known = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)
    return TokenPairs(fields.text("input"), known, read_threshold(fields))


def look_at_pairs(inputs: Feeds, seen: TokenPairs) -> Finding | None:
    """Compare one text with calibration texts: name -> array without a batch axis."""
    ids = own_ids(inputs, seen.input) if seen.input in inputs else np.zeros(0, np.int64)
    if len(ids) <= _LEAST_PAIRS:
        return None
    share = 1 - float(seen.known[_places(ids, len(seen.known).bit_length() - 1)].mean())
    return find_unusual("the text is unlike calibration data: share of new pairs of tokens", share, seen.threshold)


def own_ids(inputs: Feeds, name: str) -> Array:
    """A text's ids without what fills it up: by its mask, or else the same id again and again at its end."""
    ids = np.asarray(inputs[name]).reshape(-1)
    mask = next((inputs[key] for key in TEXT_INPUTS["mask"] if key in inputs), None)
    if mask is not None and np.size(mask) == len(ids):
        return ids[np.asarray(mask).reshape(-1) > 0]
    others = np.flatnonzero(ids != ids[-1]) if len(ids) else ids
    return ids[: int(others[-1]) + 2] if len(others) else ids[:1]


def _ids_name(inputs: Feeds) -> str | None:
    return next((key for key in TEXT_INPUTS["ids"] if key in inputs), None)


def _bits_for(rows: Sequence[Array]) -> int:
    pairs = sum(len(ids) - 1 for ids in rows)
    return min(max((_SPARSE * pairs - 1).bit_length(), _LEAST_BITS), _MOST_BITS)


def _places(ids: Array, bits: int) -> Array:
    """The hash of each pair of neighbours: int64 (n - 1,), below 2^bits."""
    words = ids.astype(np.uint64)
    mixed = ((words[:-1] << np.uint64(32)) ^ words[1:]) * _MIXER
    return np.asarray(mixed >> np.uint64(64 - bits)).astype(np.int64)
