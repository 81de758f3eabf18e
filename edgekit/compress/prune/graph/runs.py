"""Running parts of models on calibration data: only what is asked for is computed, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from edgekit.compress.quantize.calibration import first_samples, input_specs, open_session
from edgekit.data.split import Split
from edgekit.errors import CompressError, EdgekitError
from edgekit.graph.clean import remove_dead
from edgekit.graph.feeds import generate_feeds, guessed_shapes
from edgekit.graph.vocabulary import vocabularies
from edgekit.progress import track
from edgekit.specs import Array, Feeds

_BATCH = 32
_BATCH_VALUES = 1 << 17  # of the inputs; large images are run one by one
_LEAST_BATCHES = 8  # so that some can be held out


def cut_to(model: onnx.ModelProto, values: Sequence[str]) -> onnx.ModelProto:
    """A model that computes these values and nothing else."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.output[:]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    remove_dead(part)
    return part


def run_together(
    parts: Sequence[tuple[onnx.ModelProto, Sequence[str]]], split: Split, samples: int, title: str
) -> Iterator[tuple[list[dict[str, Array]], int]]:
    """Values of several models on the same samples.

    Args:
        parts: Models with the values that are asked of each; all take the same inputs.
        split: Calibration data.
        samples: At most so many, evenly spread over the data.
        title: What a person reads meanwhile.

    Yields:
        The values of each model by name, and how many samples are real.
    """
    specs = input_specs(parts[0][0])
    data = first_samples(split, samples, specs)
    inputs = {s.name for s in specs}
    asked = [[v for v in dict.fromkeys(values) if v and v not in inputs] for _, values in parts]
    sessions = [open_session(cut_to(m, names)) if names else None for (m, _), names in zip(parts, asked, strict=True)]
    size = min(data.affordable(_BATCH, _BATCH_VALUES), max(1, len(data) // _LEAST_BATCHES))
    for batch in track(data.batches(specs, size), title, total=-(-len(data) // size)):
        found = []
        for session, names in zip(sessions, asked, strict=True):
            made = session.run(dict(batch.feeds), names) if session is not None else []
            values = {**batch.feeds, **dict(zip(names, made, strict=True))}
            found.append({k: _real(v, batch.n, data.whole_feeds, batch.feeds) for k, v in values.items()})
        yield found, batch.n


def _real(value: Array, n: int, whole_feeds: bool, feeds: Feeds) -> Array:
    """A value without the rows of samples that only fill a batch up; a sample may have several rows."""
    size = next((len(a) for a in feeds.values() if np.ndim(a)), n)
    if whole_feeds or size == n or not isinstance(value, np.ndarray) or not value.ndim or len(value) % size:
        return value
    return value[: len(value) // size * n]


def sample_feeds(model: onnx.ModelProto, split: Split | None) -> Feeds:
    """Inputs for one run: a sample of the data, or generated ones that the model accepts.

    Raises:
        CompressError: if it accepts none of the guesses.
    """
    specs = input_specs(model)
    if split is not None:
        return next(iter(first_samples(split, 1, specs).batches(specs, 1))).feeds
    session, reason, known = open_session(model), "", vocabularies(model)
    for shapes in guessed_shapes(specs):
        try:
            feeds = generate_feeds(specs, shapes=shapes, vocabularies=known)
            session.run(feeds)
        except (EdgekitError, TypeError) as error:
            reason = str(error)
            continue
        return feeds
    raise CompressError(f"the model accepts no generated inputs ({reason}); give real ones with --data DATA.npz")


def is_finite(value: Array) -> bool:
    """Whether a value can be learnt from."""
    return bool(np.isfinite(value).all())
