"""Models that take a series in chunks and carry a state: run on a whole series, and how far two such models drift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.errors import ModelError
from edgekit.evaluate import Runner
from edgekit.specs import Array, TensorSpec
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
    state = {s.name: _nothing(s, len(series)) for s in carried}
    for start in range(0, series.shape[1], chunk):
        answer, *left = runner.run({first.name: series[:, start : start + chunk], **state})
        if len(left) != len(carried):
            raise ModelError(f"the model takes {len(carried)} states and gives {len(left)}; it is none that streams")
        state = {s.name: value for s, value in zip(carried, left, strict=True)}
        yield answer, left


def state_drift(reference: Runner, candidate: Runner, series: Array) -> Array:
    """How far a compressed model's state is from the original's, step by step, each carrying its own.

    Args:
        reference: The uncompressed model.
        candidate: The compressed one.
        series: (n, time, channels), or ids (n, length).

    Returns:
        float64 (time,): signal to error of the whole state in dB behind each step, over all series; what falls from
        step to step adds up and ends in another answer, what stays level does not.

    Raises:
        ModelError: if one of them carries no state, or they carry different ones.
    """
    if [str(s) for s in reference.inputs] != [str(s) for s in candidate.inputs]:
        raise ModelError(
            f"the models carry different states: {', '.join(map(str, reference.inputs))} and "
            f"{', '.join(map(str, candidate.inputs))}"
        )
    pairs = zip(run_stream(reference, series), run_stream(candidate, series), strict=True)
    return np.array([_signal_to_error(wanted, got) for (_, wanted), (_, got) in pairs])


def _signal_to_error(wanted: list[Array], got: list[Array]) -> float:
    a, b = (np.concatenate([s.astype(np.float64).ravel() for s in states]) for states in (wanted, got))
    return signal_to_noise_db(np.array([[np.square(a).sum(), np.square(b - a).sum()]]))


def _nothing(spec: TensorSpec, count: int) -> Array:
    return np.zeros((count, *(d if isinstance(d, int) else 1 for d in spec.shape[1:])), spec.dtype)
