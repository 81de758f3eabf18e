"""Signs that calibration data is not what the model was trained on; ranges from such data fit nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from edgekit.compress.quantize.observers import Observation

_MANY = 0.25
_MOST = 0.5


def doubts(seen: Mapping[str, Observation], clipped: Collection[str]) -> list[str]:
    """What looks wrong, one sentence each; empty where nothing does.

    Args:
        seen: What the activations held, by tensor.
        clipped: Outputs of Clip; images whose pixels were not normalised fill the first of them.
    """
    found = []
    dead = [name for name, o in seen.items() if o.low == o.high == 0]
    if len(dead) > _MANY * len(seen):
        found.append(f"{len(dead)} of {len(seen)} activations are zero on every sample ({_some(dead)})")
    full = [name for name, o in seen.items() if name in clipped and share_at_top(o) > _MOST]
    if full:
        found.append(f"most values of {_some(full)} sit at the upper bound of their Clip")
    return found


def share_at_top(seen: Observation) -> float:
    """Which share of the values that are not zero lies within a thousandth of the largest."""
    if not seen.limit or not np.isfinite(seen.high) or seen.high <= 0:
        return 0.0
    moving = int(seen.counts.sum()) - seen.zeros
    at_top = int(seen.counts[seen.centres >= seen.high * 0.999].sum())
    return at_top / moving if moving > 0 else 0.0


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
