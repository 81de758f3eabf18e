"""Models that take a series in chunks and carry a state: run on a whole series, and how far two such models drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.data.split import Split, empty_memory
from edgekit.errors import ModelError
from edgekit.evaluate import Runner
from edgekit.ort import Session
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks.drift import signal_to_noise_db


def run_stream(runner: Runner, series: Array, chunk: int = 1) -> Iterator[tuple[Array, list[Array]]]:
    """Feed a series in chunks, each going on from the state that the one before left; the first state is zeros.

    Args:
        runner: Its first input takes a chunk, the others the state; its outputs are the answer and the next state, in
            the same order, as `edgekit export --streaming` writes them.
        series: (n, time, channels), or ids (n, length).
        chunk: Steps at once; the last chunk may be shorter.

    Yields:
        (answer to the chunk, state behind it).

    Raises:
        ModelError: if the model carries no state.
    """
    first, *carried = runner.inputs
    if not carried:
        raise ModelError(
            f"the model takes {first} and no state; make one that streams: edgekit export CHECKPOINT --streaming"
        )
    state = {s.name: empty_memory(s, len(series)) for s in carried}
    for start in range(0, series.shape[1], chunk):
        answer, *left = runner.run({first.name: series[:, start : start + chunk], **state})
        if len(left) != len(carried):
            raise ModelError(f"the model takes {len(carried)} states and gives {len(left)}; it is none that streams")
        state = {s.name: value for s, value in zip(carried, left, strict=True)}
        yield answer, left


def is_streaming(session: Session) -> bool:
    """Whether it takes chunks and carries a state."""
    return session.metadata.get("edgekit.part") == "streaming"


def as_stream(split: Split) -> Split:
    """Whole series as one chunk; where they end before the last step, no label says what belongs to a chunk."""
    first = next(iter(split.arrays))
    ends = len(split.arrays) > 1
    return replace(split, arrays={first: split.arrays[first]}, labels=None if ends else split.labels)


@dataclass(frozen=True)
class WholeSeries:
    """A model that streams, asked as one that takes series which end anywhere: by single steps, as an app asks it.

    Attributes:
        session: Takes a chunk and the state.
        inputs: Series (n, time, channels) or ids (n, length), and where they end: lengths (n,) or a mask (n, time).
    """

    session: Session
    inputs: tuple[TensorSpec, ...]

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The answer; the state is nobody's but the model's."""
        return self.session.outputs[:1]

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return self.session.metadata

    def run(self, feeds: Feeds) -> list[Array]:
        """The answer at the end of each series (n, outputs), or of each step (n, time, outputs)."""
        series, ends = (feeds[spec.name] for spec in self.inputs)
        answers = [answer for answer, _ in run_stream(self.session, series)]
        if self.outputs[0].rank > 2:
            return [np.concatenate(answers, axis=1)]
        return [np.stack(answers, axis=1)[np.arange(len(series)), np.maximum(_lengths(ends), 1) - 1]]


def as_whole(session: Session, inputs: Sequence[TensorSpec]) -> Session | WholeSeries:
    """A model as data asks it: by whole series, also where it streams and the series end anywhere.

    Args:
        session: Any model.
        inputs: What the data holds.
    """
    ragged = is_streaming(session) and len(inputs) > 1
    return WholeSeries(session, tuple(inputs)) if ragged else session


def _lengths(ends: Array) -> Array:
    """Steps of each series, from their number or a mask of ones that end in zeros: int64 (n,)."""
    return np.asarray(ends.sum(axis=1) if ends.ndim > 1 else ends, dtype=np.int64)


def state_drift(reference: Runner, candidate: Runner, series: Array, ends: Array | None = None) -> Array:
    """How far a compressed model's state is from the original's, step by step, each carrying its own.

    Args:
        reference: The uncompressed model.
        candidate: The compressed one.
        series: (n, time, channels), or ids (n, length).
        ends: Lengths (n,), or a mask (n, time); None where all series end with the last step.

    Returns:
        float64 (time,): signal to error of the whole state in dB behind each step, over all series that go so far; what
        falls from step to step adds up and ends in another answer, what stays level does not.

    Raises:
        ModelError: if one of them carries no state, or they carry different ones.
    """
    if [str(s) for s in reference.inputs] != [str(s) for s in candidate.inputs]:
        raise ModelError(
            f"the models carry different states: {', '.join(map(str, reference.inputs))} and "
            f"{', '.join(map(str, candidate.inputs))}"
        )
    lengths = np.full(len(series), series.shape[1]) if ends is None else _lengths(ends)
    series = series[:, : int(lengths.max(initial=0))]
    pairs = zip(run_stream(reference, series), run_stream(candidate, series), strict=True)
    return np.array([_signal_to_error(wanted, got, lengths > t) for t, ((_, wanted), (_, got)) in enumerate(pairs)])


def _signal_to_error(wanted: list[Array], got: list[Array], going: Array) -> float:
    """Of the series that are still going."""
    a, b = (np.concatenate([s[going].astype(np.float64).ravel() for s in states]) for states in (wanted, got))
    return signal_to_noise_db(np.array([[np.square(a).sum(), np.square(b - a).sum()]]))
