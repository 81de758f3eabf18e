"""How far a candidate gives the answers of the original, where there are no labels to judge both by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Literal

import numpy as np

from edgekit.data.split import Split
from edgekit.evaluate import BATCH, BATCH_VALUES, Runner
from edgekit.progress import track
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks.metric import Metric, MetricValue, summarise

Kind = Literal["agreement", "closeness", "cosine"]
_VOCABULARY = 16


class Remembering:
    """A runner that knows its answers to what it was asked before, as far as they fit into memory.

    Args:
        runner: Whose answers.
        most_bytes: Of all answers that are kept.
    """

    def __init__(self, runner: Runner, most_bytes: int = 1 << 28) -> None:
        self._runner, self._left = runner, most_bytes
        self._answers: dict[bytes, list[Array]] = {}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs it wants."""
        return self._runner.inputs

    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs for one batch."""
        if not all(isinstance(a, np.ndarray) and a.dtype != object for a in feeds.values()):  # sequences, strings
            return self._runner.run(feeds)
        asked = sha256()
        for name, array in feeds.items():
            asked.update(f"{name} {array.dtype} {array.shape}".encode())
            asked.update(np.ascontiguousarray(array).data)
        key = asked.digest()
        if key in self._answers:
            return self._answers[key]
        outputs = self._runner.run(feeds)
        size = sum(o.nbytes if isinstance(o, np.ndarray) else self._left + 1 for o in outputs)
        if size <= self._left:
            self._left -= size
            self._answers[key] = outputs
        return outputs


def agreement(reference: Runner, candidate: Runner, split: Split, *, batch: int = BATCH) -> MetricValue:
    """Compare two models on the same inputs; 1.0 is full agreement, and it is marked as a proxy.

    What is compared follows from what the outputs are, the worst float output of a sample counting:

    - "agreement" of classes (n, k) that are no embeddings of length 1, or of the classes at each position
      (n, length, k): the share of equal arg-max;
    - "closeness" of maps of probabilities (every value of the reference in 0..1): 1 - root mean square difference;
    - "cosine" of everything else.
    """
    data = split.matched(reference.inputs)
    batch = data.affordable(batch, BATCH_VALUES)
    found: list[Array] = []
    kinds: list[Kind] = []
    total = -(-len(data) // batch)
    for part in track(data.batches(reference.inputs, batch), f"compare on {split.name}", total=total):
        wanted, got = reference.run(part.feeds), candidate.run(part.feeds)
        kinds = kinds or _kinds(wanted)
        found.append(_worst(wanted, got, kinds, part.n))
    first = kinds[0] if kinds else "cosine"
    shares = all(k == "agreement" for k in kinds) and all(np.isin(f, (0.0, 1.0)).all() for f in found)
    metric = Metric(first, True, "", lambda o, y, f: np.empty(0), needs_labels=False, binary=shares)
    return replace(summarise(metric, np.concatenate(found)), proxy=True)


def _kinds(outputs: Sequence[Array]) -> list[Kind]:
    """Classes are looked for in the first output only: further ones are mostly states and features."""
    later: dict[Kind, Kind] = {"agreement": "cosine", "closeness": "closeness", "cosine": "cosine"}
    return [kind_of(o) if i == 0 else later[kind_of(o)] for i, o in enumerate(outputs)]


def kind_of(output: Array) -> Kind:
    """How an output is compared."""
    floats = isinstance(output, np.ndarray) and output.dtype.kind == "f" and output.size > 0
    if not floats:
        return "cosine"
    if output.ndim == 2 and output.shape[-1] >= 2:
        return "cosine" if _is_embedding(output) else "agreement"
    probabilities = float(output.min()) >= 0 and float(output.max()) <= 1
    if output.ndim == 3 and output.shape[-1] >= _VOCABULARY and probabilities:
        return "agreement"
    return "closeness" if probabilities and output.ndim >= 3 else "cosine"


def _is_embedding(output: Array) -> bool:
    """Whether every row has length 1 and is no distribution: nobody asks for the arg-max of such rows."""
    rows = output.astype(np.float64)
    lengths, sums = np.linalg.norm(rows, axis=1), np.abs(rows).sum(axis=1)
    return bool(np.allclose(lengths, 1.0, atol=1e-3) and not np.allclose(sums, 1.0, atol=1e-3))


def _worst(wanted: Sequence[Array], got: Sequence[Array], kinds: Sequence[Kind], n: int) -> Array:
    """The lowest score of each sample over all float outputs; float64 (n,), or (1,) where outputs have no batch."""
    scores = [
        _score(a, b, kind, n)
        for a, b, kind in zip(wanted, got, kinds, strict=True)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size
    ]
    if not scores:
        return np.ones(n)
    size = min(len(s) for s in scores)
    return np.asarray(np.min([s[:size] for s in scores], axis=0))


def _score(a: Array, b: Array, kind: Kind, n: int) -> Array:
    if a.shape != b.shape:
        return np.zeros(n)
    if kind == "agreement":
        sound = np.isfinite(b).all(axis=-1) | ~np.isfinite(a).all(axis=-1)
        equal = ((a.argmax(-1) == b.argmax(-1)) & sound).astype(np.float64)[:n]
        return np.asarray(equal.reshape(len(equal), -1).mean(axis=1))
    x, y = _rows(a, n), _rows(b, n)
    if kind == "closeness":
        return np.asarray(np.nan_to_num(1.0 - np.sqrt(np.square(x - y).mean(axis=1)), nan=0.0))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    same = (x == y).all(axis=1)
    return np.where(same, 1.0, np.divide((x * y).sum(axis=1), norms, out=np.zeros(len(x)), where=norms > 0))


def _rows(array: Array, n: int) -> Array:
    batched = array.ndim > 0 and array.shape[0] >= n
    return (array[:n].reshape(n, -1) if batched else array.reshape(1, -1)).astype(np.float64)
