"""Feeds on their way to a child process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.specs import Feeds


@contextmanager
def archived(feeds: Feeds | None) -> Iterator[list[Any] | None]:
    """Feeds in a file for the child: its path and the names, which may be odd, in order."""
    if feeds is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-feeds-") as directory:
        path = Path(directory) / "feeds.npz"
        plain = {f"feed_{i}": a.astype(str) if a.dtype == object else a for i, a in enumerate(feeds.values())}
        np.savez(path, allow_pickle=False, **plain)
        yield [str(path), list(feeds)]


def unarchived(archive: list[Any] | None) -> Feeds | None:
    """What `archived` put there."""
    if archive is None:
        return None
    with np.load(archive[0], allow_pickle=False) as held:
        return {name: held[f"feed_{i}"] for i, name in enumerate(archive[1])}
