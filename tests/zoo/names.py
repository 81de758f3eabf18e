"""Names that a file may carry and tools stumble over."""

from __future__ import annotations

import numpy as np

from tests.zoo.entry import Entry, case, renamed
from tests.zoo.storage import dense


@case()
def nodes_without_names(rng: np.random.Generator) -> Entry:
    """No node has a name, as keras2onnx and hand-made files have it."""
    entry = dense(rng)
    for node in entry.model.graph.node:
        node.ClearField("name")
    return entry


@case()
def odd_characters(rng: np.random.Generator) -> Entry:
    """Unicode, spaces, slashes, colons, dots, quotes and a very long name."""
    names = {
        "x": "Eingabe größe/输入 :0",
        "y": "../../out put\t'\"",
        "w1": "权重 1",
        "b1": "a" * 3000,
        "ar": "[bold]//",
    }
    return renamed(dense(rng), names)


@case()
def names_that_edgekit_would_give(rng: np.random.Generator) -> Entry:
    """Values are called as ours would be: q, s, f, h, w, c0, q1, d2."""
    ours = {"x": "q", "w1": "s", "b1": "f", "a": "h", "ab": "w", "ar": "c0", "b": "q1", "y": "d2"}
    return renamed(dense(rng), ours)


@case()
def names_of_numbers(rng: np.random.Generator) -> Entry:
    """PyTorch's of 2019: values are called 0 to 9."""
    return renamed(
        dense(rng), {n: str(i) for i, n in enumerate(("x", "w1", "b1", "w2", "b2", "a", "ab", "ar", "b", "y"))}
    )
