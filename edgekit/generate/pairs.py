"""Models of pairs of texts: an encoder that reads once and a decoder that writes, or both in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekit import interrupt
from edgekit.data.split import empty_memory
from edgekit.data.text.beside import find_tokenizers, told_of
from edgekit.data.text.pairs import PairPreprocessing
from edgekit.data.text.tokenizer import PairTokenizers
from edgekit.errors import DataError, InputError, ModelError
from edgekit.generate.beam import Hypothesis, NextLogits, beam_search
from edgekit.generate.model import first_names
from edgekit.ort import Session
from edgekit.specs import Array, Feeds

_CACHED = ("target", "mask")  # and keys and values of what was read and what was written
_READ, _WRITTEN, _WHOLE = ("source", "mask"), ("target", "memory", "mask"), ("source", "mask", "target")
_KINDS = {_READ: "encoder", _WRITTEN: "decoder", _CACHED: "decoder with a cache", _WHOLE: "whole model of pairs"}
_AND_MORE = ", memory.… and past_key_values.…"
_MEMORY, _PAST = "memory", "past_key_values"
_TASK = "sequence-to-sequence"
_THEIRS = {"input_ids", "input_features", "encoder_hidden_states"}
_MOST_PENALTY = 10
_LONGEST = 512  # where the file sets no limit


class PairModel(Protocol):
    """What writing asks of a model."""

    def read(self, feeds: Feeds) -> NextLogits:
        """Read one text, "source" and "mask" int64 (1, length); what asks for the next id of what is written."""
        ...


@dataclass(frozen=True)
class TwoFiles:
    """An encoder, which runs once a text, and a decoder, which runs once an id."""

    encoder: Session
    decoder: Session

    def read(self, feeds: Feeds) -> NextLogits:
        """See `PairModel`."""
        memory, mask = self.encoder.run(feeds)[0], feeds["mask"]

        def ask(so_far: Array) -> Array:
            spread = {"memory": memory, "mask": mask}
            return _last(self.decoder.run({"target": so_far, **_repeated(spread, len(so_far))})[0])

        return ask


@dataclass(frozen=True)
class WithCache:
    """An encoder, which also looks at the text once for all blocks of the decoder, and a decoder that remembers."""

    encoder: Session
    decoder: Session

    def read(self, feeds: Feeds) -> NextLogits:
        """See `PairModel`."""
        looked_at = dict(zip((s.name for s in self.encoder.outputs), self.encoder.run(feeds), strict=True))
        return _Remembered(self.decoder, {**looked_at, "mask": feeds["mask"]})


class _Remembered:
    """Asks for the next id by the last ones alone; what is remembered is found by what was written before.

    Args:
        decoder: The session.
        read: Of one text.
    """

    def __init__(self, decoder: Session, read: Feeds) -> None:
        self._decoder, self._read = decoder, read
        self._spread: dict[int, Feeds] = {}
        self._pasts = [s for s in decoder.inputs if s.name.startswith(_PAST)]
        self._rows: dict[tuple[int, ...], int] = {}
        self._kept: list[Array] = []

    def __call__(self, so_far: Array) -> Array:
        """Logits of the next id of each sequence: int64 (k, t) -> float32 (k, vocabulary)."""
        sequences = [tuple(row) for row in so_far.tolist()]
        rows = [self._rows[before] for before in (s[:-1] for s in sequences) if before in self._rows]
        known = len(rows) == len(sequences)
        past = [a[rows] for a in self._kept] if known else [empty_memory(s, len(so_far)) for s in self._pasts]
        logits, *self._kept = self._decoder.run(
            {
                "target": so_far[:, -1:] if known else so_far,
                **self._read_for(len(so_far)),
                **{spec.name: array for spec, array in zip(self._pasts, past, strict=True)},
            }
        )
        self._rows = {sequence: row for row, sequence in enumerate(sequences)}
        return _last(logits)

    def _read_for(self, count: int) -> Feeds:
        """What was read, for so many sequences."""
        if count not in self._spread:
            self._spread = {count: _repeated(self._read, count)}
        return self._spread[count]


@dataclass(frozen=True)
class OneFile:
    """Both in one file, which reads again for each id: slower, and the same."""

    session: Session

    def read(self, feeds: Feeds) -> NextLogits:
        """See `PairModel`."""
        return lambda so_far: _last(self.session.run({**_repeated(feeds, len(so_far)), "target": so_far})[0])


@dataclass(frozen=True)
class Translator:
    """A model with what turns texts into its ids and back.

    Attributes:
        model: Reads and tells next ids.
        preparation: Of its texts.
        longest: Most ids of either text.
    """

    model: PairModel
    preparation: PairPreprocessing
    longest: int

    def write(self, text: str, *, width: int = 1, penalty: float = 1.0, most: int | None = None) -> list[Answer]:
        """The best answers to a text that a beam finds, the best first.

        Args:
            text: To read.
            width: Of the beam; 1 takes the likeliest id each time.
            penalty: Exponent of the length, see `beam_search`; 0 to 10.
            most: Most ids of an answer; what the model can write by default.

        Raises:
            DataError: if the text is empty, or longer than the model takes.
            InputError: if the penalty is out of its range.
        """
        if not 0 <= penalty <= _MOST_PENALTY:
            raise InputError(
                f"length-penalty must lie in 0..{_MOST_PENALTY}, got {penalty}; 0 compares sums, 1 compares means"
            )
        known = self.preparation.tokenizers.target
        ask = self.model.read(self._feeds(text))

        def unless_stopped(so_far: Array) -> Array:
            if interrupt.requested():
                raise KeyboardInterrupt
            return ask(so_far)

        longest, end = min(most or self.longest, self.longest), int(known.end or 0)
        found = beam_search(unless_stopped, begin=known.begin, end=end, longest=longest, width=width, penalty=penalty)
        return [_answer(self.preparation.tokenizers, hypothesis) for hypothesis in found]

    def _feeds(self, text: str) -> Feeds:
        if not text.strip():
            raise DataError("the text is empty; give one to read")
        feeds = self.preparation.read([text], "to read")
        length = feeds["source"].shape[1]
        if length > self.longest:
            raise DataError(
                f"the text has {length:,} tokens with its end, and the model takes {self.longest:,} at most; shorten it"
            )
        return feeds


@dataclass(frozen=True)
class Answer:
    """What was written.

    Attributes:
        text: Of the ids.
        ids: Without the ones that begin and end.
        log_probability: Sum over the ids and the end, in nats.
        score: What answers are compared by.
        ended: Whether the model said that it is the end; otherwise it came to its longest.
    """

    text: str
    ids: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {**vars(self), "ids": list(self.ids)}


def open_translator(
    model: Path, decoder: Path | None = None, *, provider: str = "cpu", threads: int | None = None
) -> Translator:
    """Open a model of pairs, its tokenisers beside it.

    Args:
        model: An encoder's .onnx file; or the whole model's, without `decoder`.
        decoder: The decoder's.
        provider: Short name.
        threads: Intra-op threads; by default what affinity and cgroup allow.

    Raises:
        ModelError: if a file is something else, the two do not belong together, or a tokeniser is missing.
    """
    first = _open(model, _READ if decoder is not None else _WHOLE, provider, threads)
    told = told_of(first.metadata)
    known = find_tokenizers(model, told)
    if not isinstance(known, PairTokenizers):
        raise ModelError(
            f"{model} does not say how pairs of texts become ids; export it by `edgekit export CHECKPOINT`"
        )
    limit = first.metadata.get("edgekit.longest", "")
    longest = int(limit) if limit.isdigit() else _LONGEST
    preparation = PairPreprocessing(known, longest + 1, truncate=False)
    if decoder is None:
        return Translator(OneFile(first), preparation, longest)
    remembers = first.outputs[0].name != "memory"
    second = _open(decoder, _CACHED if remembers else _WRITTEN, provider, threads)
    _require_a_pair(model, first, decoder, second)
    pair = WithCache(first, second) if remembers else TwoFiles(first, second)
    return Translator(pair, preparation, longest)


def is_model_of_pairs(path: Path) -> bool:
    """Whether an .onnx file says that it turns a text into another."""
    from edgekit.graph.admit import admit_model

    if path.is_dir():
        return False
    return any(p.key == "edgekit.task" and p.value == _TASK for p in admit_model(path).metadata_props)


def _open(path: Path, wanted: Sequence[str], provider: str, threads: int | None) -> Session:
    from edgekit.graph.admit import admit_model

    if path.is_dir():
        raise ModelError(
            f"{path} is a directory; write the model as ONNX first: edgekit export {path} --part encoder --out "
            "encoder.onnx, and the same with --part decoder"
        )
    admit_model(path)
    session = Session(path, provider, threads=threads)
    if _THEIRS & {s.name for s in session.inputs}:
        raise ModelError(
            f"{path} is a part of an encoder and decoder of Hugging Face, which edgekit exports, compresses and checks "
            "but does not write with; use ORTModelForSeq2SeqLM of optimum, or transformers.js"
        )
    got = tuple(s.name for s in session.inputs if not s.name.startswith((_PAST, f"{_MEMORY}.")))
    if set(got) != set(wanted) or (wanted == _CACHED) != (len(got) < len(session.inputs)):
        what = _KINDS[tuple(wanted)]
        raise ModelError(
            f"{path} is no {what}: it takes {first_names(session.inputs)}, and one takes "
            f"{', '.join(wanted)}{_AND_MORE if wanted == _CACHED else ''}; "
            "give encoder.onnx, and --decoder decoder.onnx, as `edgekit export --part` writes them"
        )
    return session


def _require_a_pair(model: Path, encoder: Session, decoder_path: Path, decoder: Session) -> None:
    """Refuse files of two models."""
    given = [(s.name, s.shape[-1]) for s in encoder.outputs]
    taken = [(s.name, s.shape[-1]) for s in decoder.inputs if s.name.startswith(_MEMORY)]
    said = [told_of(session.metadata) for session in (encoder, decoder)]
    if given != taken or said[0] != said[1]:
        widths = [", ".join(dict.fromkeys(str(width) for _, width in each)) for each in (given, taken)]
        raise ModelError(
            f"{model} and {decoder_path} are of two models: their widths are {widths[0]} and {widths[1]}, of "
            f"{len(given)} and {len(taken)} tensors, their tokenisers "
            f"{'the same' if said[0] == said[1] else 'different'}; export both from one checkpoint"
        )


def _repeated(feeds: Feeds, count: int) -> dict[str, Array]:
    return {name: np.repeat(array, count, axis=0) for name, array in feeds.items()}


def _last(logits: Array) -> Array:
    return np.asarray(logits[:, -1], dtype=np.float32)


def _answer(known: PairTokenizers, found: Hypothesis) -> Answer:
    ended = bool(found.ids) and found.ids[-1] == known.target.end
    ids = found.ids[:-1] if ended else found.ids
    return Answer(known.target.decode(ids), ids, found.log_probability, found.score, ended)
