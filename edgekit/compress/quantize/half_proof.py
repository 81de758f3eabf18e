"""Proof that a model in 16 bits gives finite outputs, and the search for the nodes that keep it from doing so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx

from edgekit.compress.quantize.calibration import first_samples
from edgekit.compress.quantize.narrow import float_values, narrow
from edgekit.data.split import Split
from edgekit.errors import CompressError, EdgekitError, ModelError
from edgekit.files import replacing
from edgekit.graph.feeds import generate_feeds
from edgekit.graph.read import proto_bytes
from edgekit.graph.write import save, write_model
from edgekit.ort.session import Session
from edgekit.progress import track
from edgekit.specs import Array, Feeds, TensorSpec

T = TypeVar("T")
_MAX_BYTES = 1_900_000_000  # a session takes no more from memory
_PROVED = 8
_CULPRITS = 12
_GUESSES = (1, 8, 32, 64, 224)


@dataclass(frozen=True)
class Samples:
    """What a model is run on.

    Attributes:
        split: Matched to the inputs.
        inputs: The float model's.
    """

    split: Split
    inputs: tuple[TensorSpec, ...]

    def feeds(self, keep_io: bool = True) -> Feeds:
        """One run's worth, as the model in 16 bits wants it."""
        return self.all_feeds(1, keep_io)[0]

    def all_feeds(self, count: int, keep_io: bool = True) -> list[Feeds]:
        """A run for each of the first samples."""
        parts = self.split.take(count).batches(self.inputs, 1)
        return [{k: v if keep_io else _as_half(v) for k, v in part.feeds.items()} for part in parts]

    def watch(
        self, model: onnx.ModelProto, names: list[str], count: int, look: Callable[[Array], T], keep_io: bool = True
    ) -> list[dict[str, T]]:
        """What `look` says of each named value in a run of each of the first samples.

        The values are made outputs: between kernels, ONNX Runtime's CPU provider would keep 16-bit ones in float32.
        """
        made, there = {o for n in model.graph.node for o in n.output}, {o.name for o in model.graph.output}
        asked = [n for n in names if n in made]
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        exposed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in asked if n not in there)
        session = Session(exposed.SerializeToString())
        seen = []
        for feeds in track(self.all_feeds(count, keep_io), "measure ranges"):
            values = dict(zip(asked, session.run(feeds, asked), strict=True)) if asked else {}
            seen.append({n: look(values[n] if n in values else feeds[n]) for n in names})
        return seen


def _as_half(values: Array) -> Array:
    return values.astype(np.float16) if values.dtype == np.float32 else values


def samples_for(model: onnx.ModelProto, calibration: Split | None, count: int) -> Samples | None:
    """Calibration samples, or else made-up inputs that the model accepts; None where none is found.

    Raises:
        DataError: if the calibration data does not fit the model.
    """
    if proto_bytes(model) > _MAX_BYTES:
        return None
    session = Session(model.SerializeToString(), graph_optimization=False)
    if calibration is not None:
        return Samples(first_samples(calibration, count, session.inputs), session.inputs)
    for dim in _GUESSES:
        try:
            feeds = generate_feeds(session.inputs, default_dim=dim)
            session.run(feeds)
        except (EdgekitError, TypeError):
            continue
        arrays = {name: np.asarray(value)[None] for name, value in feeds.items()}
        return Samples(Split("made-up inputs", arrays, whole_feeds=True), session.inputs) if arrays else None
    return None


def make_finite(
    model: onnx.ModelProto, element: int, kept: dict[str, str], samples: Samples | None, *, keep_io: bool
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model in 16 bits, with as many more nodes in float32 as finite values need.

    Returns:
        The model, and the nodes that stayed in float32 with the reasons.

    Raises:
        CompressError: if there are too many of them.
    """
    made = narrow(model, element, kept, keep_io=keep_io)
    if samples is None:
        return made, kept
    trial, kept = _Trial(model, element, samples, keep_io), dict(kept)
    for _ in range(_CULPRITS):
        culprit = trial.culprit(made, kept)
        if culprit is None:
            return made, kept
        kept[culprit[0]] = culprit[1]
        made = narrow(model, element, kept, keep_io=keep_io)
    raise CompressError(
        f"the model in 16 bits does not give finite outputs, also with {len(kept)} nodes in float32; keep it in float32"
    )


class _Trial:
    def __init__(self, model: onnx.ModelProto, element: int, samples: Samples, keep_io: bool) -> None:
        self._model, self._element, self._samples, self._keep_io = model, element, samples, keep_io
        floats = {v for names in float_values(model).values() for v in names}
        self._made_by = {o: n for n in model.graph.node for o in n.output if o in floats}
        self._expected = self._finite(model, True)

    def culprit(self, made: onnx.ModelProto, kept: dict[str, str]) -> tuple[str, str] | None:
        """(name, reason) of the first node that may not be in 16 bits; None where all is well."""
        try:
            finite = self._finite(made, self._keep_io)
        except ModelError:
            node = self._first_that_does_not_run(kept)
            return node.name, f"{node.op_type} does not run in 16 bits in this place"
        for value, node in self._made_by.items():
            if self._expected[value] and not finite[value] and node.name not in kept:
                return node.name, f"{node.op_type} gives NaN or Inf in 16 bits"
        return None

    def _first_that_does_not_run(self, kept: dict[str, str]) -> onnx.NodeProto:
        """By bisection: the longest beginning of the graph that runs in 16 bits ends before it."""
        nodes = [n for n in self._model.graph.node if n.name not in kept]
        runs, fails = 0, len(nodes)
        while fails - runs > 1:
            middle = (runs + fails) // 2
            made = narrow(self._model, self._element, {n.name for n in nodes[middle:]} | set(kept))
            try:
                _run(made, self._samples.all_feeds(1))
                runs = middle
            except ModelError:
                fails = middle
        if not nodes:
            raise CompressError("the model does not run in 16 bits, also with all nodes in float32; keep it in float32")
        return nodes[runs]

    def _finite(self, model: onnx.ModelProto, keep_io: bool) -> dict[str, bool]:
        """Whether each value was finite in all runs."""
        runs = self._samples.watch(model, list(self._made_by), _PROVED, lambda v: bool(np.isfinite(v).all()), keep_io)
        return {name: all(run[name] for run in runs) for name in self._made_by}


def _run(model: onnx.ModelProto, feeds: list[Feeds]) -> list[list[Array]]:
    session = Session(model.SerializeToString(), threads=1)
    return [session.run(f) for f in feeds]


def prove_on(provider: str, model: onnx.ModelProto, out: Path, samples: Samples | None) -> None:
    """Write a model that a provider loads and runs with finite outputs.

    Raises:
        ProviderError: if the provider is not there.
        ModelError: if it does not run, or gives NaN or Inf.
    """
    if provider == "cpu":
        write_model(model, out, feeds=samples.feeds() if samples else None)
        return
    with replacing(out) as temporary:
        save(model, temporary)
        onnx.checker.check_model(str(temporary))
        session = Session(temporary, provider)
        results = session.run(samples.feeds()) if samples else []
        if not all(np.isfinite(r).all() for r in results if r.dtype.kind == "f"):
            raise ModelError("its outputs are NaN or Inf")
