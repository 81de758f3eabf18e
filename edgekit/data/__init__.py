"""Data sets. A new one: one module here, one line in SOURCES, one test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.data.dataset import DataSet, DataSource
from edgekit.data.diabetes import DIABETES
from edgekit.data.digits import DIGITS
from edgekit.data.fashion_mnist import FASHION_MNIST
from edgekit.data.latent import add_latents, for_model
from edgekit.data.npz import npz_source
from edgekit.data.series import SeriesPreprocessing
from edgekit.data.split import Batch, Split, load_npz
from edgekit.data.text.config import SUFFIXES, TextConfig
from edgekit.data.text.named import longest_told, named_for, our_task, refuse_longer
from edgekit.data.text.parse import parse_text
from edgekit.data.text.source import CORPORA, load_text, text_source
from edgekit.data.text.tokenizer import PairTokenizers, TextTokenizer
from edgekit.data.time_series import TIME_SERIES
from edgekit.errors import DataError, unknown
from edgekit.runtime.image import ImagePreprocessing
from edgekit.specs import TensorSpec

_TEXTS = tuple(text_source(corpus.defaults) for corpus in CORPORA.values())
SOURCES: dict[str, DataSource] = {s.name: s for s in (DIGITS, FASHION_MNIST, DIABETES, *TIME_SERIES, *_TEXTS)}


def find_source(name: str) -> DataSource:
    """The data source of this name.

    Raises:
        DataError: if there is none; the message holds the nearest.
    """
    try:
        return SOURCES[name]
    except KeyError:
        raise DataError(unknown("data", name, SOURCES) + "; or the path of an .npz or a text file") from None


def resolve_source(data: str | TextConfig) -> DataSource:
    """The source that a recipe's `data` names: a named data set, an .npz with labels, or text.

    Text is a file's path, or what a recipe would say, such as "{name: fortunes, tokenizer: bytes}".

    Raises:
        DataError: if there is none.
    """
    if isinstance(data, TextConfig):
        return text_source(data)
    if data.lstrip().startswith("{"):
        return text_source(parse_text(data))
    if data.endswith(SUFFIXES):
        return text_source(TextConfig(file=data))
    return npz_source(Path(data)) if data.endswith(".npz") else find_source(data)


def is_text(data: str) -> bool:
    """Whether this names text, which a tokeniser turns into ids."""
    return data.endswith(SUFFIXES) or data.lstrip().startswith("{") or data in CORPORA


def load_split(
    data: str,
    split: str,
    *,
    task: str = "",
    inputs: Sequence[TensorSpec] = (),
    tokenizer: TextTokenizer | PairTokenizers | None = None,
) -> Split:
    """One split of a data set, or the whole of an .npz.

    Args:
        data: As `resolve_source` takes it.
        split: "train", "calibration", "validation" or "test"; an .npz has no splits and ignores it.
        task: That the model does, where it is known and the data set can be used for it; sets the range of pixels.
        inputs: Of a model that does the task; noise is added for those that a named data set lacks.
        tokenizer: That the model's ids come from, where the data is text; both, where it is pairs.

    Raises:
        DataError: if neither is there.
    """
    if data.endswith(".npz") or (not is_text(data) and Path(data).is_file()):
        return load_npz(Path(data))
    source, task = resolve_source(data), our_task(task)
    known = task in source.tasks
    wanted = task if known else source.tasks[0]
    found = load_text(source.text, wanted, tokenizer) if source.text else source.load(None, wanted)
    splits = found.splits
    if split not in splits:
        raise DataError(unknown("split", split, splits))
    part = named_for(splits[split], inputs) if source.text else splits[split]
    return add_latents(part, inputs) if known else part


__all__ = [
    "SOURCES",
    "Batch",
    "DataSet",
    "DataSource",
    "ImagePreprocessing",
    "PairTokenizers",
    "SeriesPreprocessing",
    "Split",
    "TextConfig",
    "TextTokenizer",
    "add_latents",
    "find_source",
    "for_model",
    "is_text",
    "load_npz",
    "load_split",
    "longest_told",
    "named_for",
    "our_task",
    "refuse_longer",
    "resolve_source",
]
