"""Models of pairs of texts: an encoder that reads once and a decoder that writes, or both in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekit import interrupt
from edgekit.data.text.beside import find_tokenizers, told_of
from edgekit.data.text.pairs import PairPreprocessing
from edgekit.data.text.tokenizer import PairTokenizers
from edgekit.errors import DataError, ModelError
from edgekit.generate.beam import Hypothesis, NextLogits, beam_search
from edgekit.ort import Session
from edgekit.specs import Array, Feeds

_READ, _WRITTEN, _WHOLE = ("source", "mask"), ("target", "memory", "mask"), ("source", "mask", "target")
_TASK = "sequence-to-sequence"
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
            penalty: Exponent of the length, see `beam_search`.
            most: Most ids of an answer; what the model can write by default.

        Raises:
            DataError: if the text is empty, or longer than the model takes.
        """
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
    second = _open(decoder, _WRITTEN, provider, threads)
    _require_a_pair(model, first, decoder, second)
    return Translator(TwoFiles(first, second), preparation, longest)


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
    got = tuple(s.name for s in session.inputs)
    if set(got) != set(wanted):
        what = {_READ: "encoder", _WRITTEN: "decoder"}.get(tuple(wanted), "whole model of pairs")
        raise ModelError(
            f"{path} is no {what}: it takes {', '.join(got)}, and one takes {', '.join(wanted)}; "
            "give encoder.onnx, and --decoder decoder.onnx, as `edgekit export --part` writes them"
        )
    return session


def _require_a_pair(model: Path, encoder: Session, decoder_path: Path, decoder: Session) -> None:
    """Refuse files of two models."""
    given = encoder.outputs[0].shape[-1]
    taken = next(s.shape[-1] for s in decoder.inputs if s.name == "memory")
    said = [told_of(session.metadata) for session in (encoder, decoder)]
    if given != taken or said[0] != said[1]:
        raise ModelError(
            f"{model} and {decoder_path} are of two models: their widths are {given} and {taken}, their tokenisers "
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
