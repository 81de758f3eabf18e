"""Letting a foreign file in: read and checked, then loaded and run once where it can do no harm."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgekit.graph.probe import probe_model
from edgekit.graph.read import read_model
from edgekit.specs import Feeds


def admit_model(path: Path, feeds: Feeds | None = None) -> onnx.ModelProto:
    """Read a model that nobody vouches for, and have a child process load and run it first.

    Args:
        path: The model.
        feeds: Inputs for that run; guessed where they are not given.

    Raises:
        ModelError: if it cannot be used; the message says why.
    """
    model = read_model(path)
    probe_model(path, feeds)
    return model
