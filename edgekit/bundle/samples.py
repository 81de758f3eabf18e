"""The golden samples of a bundle: a few real inputs, and the picture or text that each was made of.

They are of the test split, one a class as long as there are classes left; nothing was chosen on them. Without data they
are drawn from the shapes and types of the inputs, which still proves that another machine computes the same.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle.models import PackedModel
from edgekit.bundle.preprocessing import task_of
from edgekit.bundle.records import PackOptions
from edgekit.data import PairTokenizers, Split, TextConfig, load_split, named_for, resolve_source
from edgekit.data.text.beside import find_tokenizer, find_tokenizers, told_of
from edgekit.data.text.preprocessing import TextPreprocessing
from edgekit.data.text.source import texts_of
from edgekit.errors import BundleError, EdgekitError
from edgekit.graph.feeds import generate_feeds, guessed_shapes
from edgekit.ort import Session
from edgekit.runtime.image import WHITE, ImagePreprocessing
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.streaming import as_stream, is_streaming

_LONGEST_TEXT = 400  # characters of a sample that a person reads
_TEXT_INPUTS = {"ids", "mask", "input_ids", "attention_mask", "position_ids", "token_type_ids"}
_MOST_SEEN = 1000
_OFF_BY = 1.0  # levels of 8 bits: more is no rounding


@dataclass(frozen=True)
class GoldenSample:
    """One sample.

    Attributes:
        feeds: As the model gets them, a batch of one.
        raw: What the preprocessing starts from, as a file's content; None where nothing is prepared.
        suffix: Of that file: "png" or "txt".
    """

    feeds: Feeds
    raw: bytes | None = None
    suffix: str = ""


@dataclass(frozen=True)
class GoldenData:
    """The samples, and what the guard learns from.

    Attributes:
        samples: At least one.
        seen: Inputs of the calibration split; None where there is no data.
        source: Where the samples come from, in words.
    """

    samples: tuple[GoldenSample, ...]
    seen: Split | None
    source: str


def collect_samples(model: PackedModel, preprocessing: Mapping[str, Any] | None, options: PackOptions) -> GoldenData:
    """Golden samples for a bundle, and the data that its guard learns from.

    Args:
        model: The first variant; the others take the same.
        preprocessing: The manifest's entry.
        options: Which data, and how many samples.

    Raises:
        DataError: if the data is not there or does not fit the model.
        BundleError: if there is no data and no made-up input is accepted.
    """
    session = Session(model.candidate.path, threads=1)
    if options.data is None:
        return GoldenData((_made_up(session),), None, "drawn from the shapes of the inputs, no data was given")
    if preprocessing is not None and preprocessing["kind"] == "text" and _only_text(session.inputs, options.data):
        config, prepare = _text_config(options.data), _text_preparation(model, preprocessing, options, session)
        found = tuple(_texts(prepare, texts_of(config, "test"), options.samples, session))
        seen = _seen_texts(prepare, texts_of(config, "calibration"), session)
        return GoldenData(found, seen, f"texts of the test split of {_title(options.data)}")
    test, seen = (_split(model, name, options, session) for name in ("test", "calibration"))
    picked = [_one(test, index, session.inputs) for index in _indices(test, options.samples)]
    if preprocessing is not None and preprocessing["kind"] == "image":
        picked = [_with_picture(sample, preprocessing) for sample in picked]
    return GoldenData(tuple(picked), seen, f"samples of the test split of {_title(options.data)}")


def _title(data: str | TextConfig) -> str:
    return data.title if isinstance(data, TextConfig) else data


def _made_up(session: Session) -> GoldenSample:
    reason = "it has inputs that edgekit cannot make up"
    for shapes in guessed_shapes(session.inputs):
        try:
            feeds = generate_feeds(session.inputs, shapes=shapes)
            session.run(feeds)
            return GoldenSample(feeds)
        except (EdgekitError, TypeError) as error:
            reason = str(error)
    raise BundleError(f"no golden sample can be made up for the model: {reason}; give real ones with --data")


def _split(model: PackedModel, name: str, options: PackOptions, session: Session) -> Split:
    """One split under the names of the model's inputs; the whole of an .npz."""
    data, task = options.data or "", task_of(model.info.metadata)
    pairs = model.info.metadata.get("edgekit.preprocessing", "").startswith('{"kind": "pairs"')
    tokenizer = find_tokenizers(model.candidate.path, told_of(session.metadata)) if pairs else None
    if isinstance(data, TextConfig):
        loaded = resolve_source(data).load(None, task).splits[name]
        return named_for(loaded, session.inputs).matched(session.inputs)
    found = load_split(data, name, task=task, inputs=session.inputs, tokenizer=tokenizer)
    return (as_stream(found) if is_streaming(session) else found).matched(session.inputs)


def _indices(split: Split, count: int) -> list[int]:
    """The first sample of each class in turn, then the first of the rest."""
    labels = split.labels
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return list(range(min(count, len(split))))
    first = sorted(int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels))
    rest = (i for i in range(len(split)) if i not in set(first))
    return [*first, *rest][: min(count, len(split))]


def _one(split: Split, index: int, inputs: Sequence[TensorSpec]) -> GoldenSample:
    labels = None if split.labels is None else split.labels[index : index + 1]
    alone = Split(split.name, {k: v[index : index + 1] for k, v in split.arrays.items()}, labels, split.whole_feeds)
    return GoldenSample(dict(next(alone.batches(inputs, 1)).feeds))


def _with_picture(sample: GoldenSample, entry: Mapping[str, Any]) -> GoldenSample:
    """The sample made anew from its pixels in 8 bits, and those pixels; as it is where 8 bits do not hold them."""
    prepare, name = ImagePreprocessing.of(entry), str(entry["input"])
    exact = prepare.inverse(sample.feeds[name])
    pixels = exact.round().clip(0, WHITE).astype(np.uint8)
    if np.abs(pixels - exact).max() > _OFF_BY or exact.shape[1] != prepare.channels or len(exact) != 1:
        return sample
    stored = pixels.transpose(0, 2, 3, 1)
    return GoldenSample({**sample.feeds, name: prepare(stored)}, _png(stored[0]), "png")


def _png(pixels: Array) -> bytes:
    """A PNG file of uint8 (height, width, 1 or 3)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "png")
    return file.getvalue()


def _only_text(inputs: Sequence[TensorSpec], data: str | TextConfig) -> bool:
    """Whether a text alone gives every input; an .npz gives arrays."""
    from edgekit.data import is_text
    from edgekit.data.split import is_memory

    text = isinstance(data, TextConfig) or is_text(data)
    return text and all(s.name in _TEXT_INPUTS or is_memory(s) for s in inputs)


def _text_preparation(
    model: PackedModel, entry: Mapping[str, Any], options: PackOptions, session: Session
) -> TextPreprocessing:
    config = _text_config(options.data or "")
    tokenizer = find_tokenizer(model.candidate.path, told_of(session.metadata), options.tokenizer)
    return TextPreprocessing(
        tokenizer, int(entry.get("length", config.length)), bool(entry.get("truncate", config.truncate))
    )


def _texts(prepare: TextPreprocessing, texts: Sequence[str], count: int, session: Session) -> Iterator[GoldenSample]:
    for text in _short(texts, prepare, count):
        split = _named(prepare.padded([text], "golden"), session)
        feeds = next(split.batches(session.inputs, 1)).feeds
        yield GoldenSample(dict(feeds), text.encode(), "txt")


def _seen_texts(prepare: TextPreprocessing, texts: Sequence[str], session: Session) -> Split | None:
    """Calibration texts as the model gets them; those that are too long are cut, which is no fault of a bundle."""
    whole = [text for text in texts if text.strip()][:_MOST_SEEN]
    return _named(replace(prepare, truncate=True).padded(whole, "calibration"), session) if whole else None


def _named(arrays: Feeds, session: Session) -> Split:
    return named_for(Split("golden", _taken(arrays, session.inputs)), session.inputs).matched(session.inputs)


def _text_config(data: str | TextConfig) -> TextConfig:
    text = resolve_source(data).text
    if text is None:
        raise BundleError(f"data {_title(data)} is no text, and the model takes text; name text with --data")
    return text


def _taken(arrays: Feeds, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Without the mask, where the model takes none."""
    names = {s.name for s in inputs}
    return {k: v for k, v in arrays.items() if k != "mask" or names & {"mask", "attention_mask"}}


def _short(texts: Sequence[str], prepare: TextPreprocessing, count: int) -> list[str]:
    """The first texts that a person reads at a glance and that fit without a cut; the first of all where none do."""
    found = []
    for text in texts:
        if text.strip() and len(text) <= _LONGEST_TEXT and _fits(text, prepare):
            found.append(text)
        if len(found) == count:
            return found
    return found or [text for text in texts if text.strip()][:count]


def _fits(text: str, prepare: TextPreprocessing) -> bool:
    return 0 < len(prepare.tokenizer.encode([text], special=True)[0]) <= prepare.length


def copy_tokenizers(model: PackedModel, entry: Mapping[str, Any] | None, given: Path | None) -> dict[str, bytes]:
    """The tokenisers that belong to the model: path in the bundle -> content; {} for models of no text.

    Args:
        model: A variant.
        entry: The manifest's preprocessing.
        given: Where the tokenizer.json lies, if not beside the model.

    Raises:
        ModelError: if one is missing or of another model.
    """
    kind, place, told = (entry or {}).get("kind"), model.candidate.path, told_of(model.info.metadata)
    if entry is None or kind not in ("text", "pairs"):
        return {}
    if kind == "text":
        return {str(entry["tokenizer"]): find_tokenizer(place, told, given).content.encode()}
    both = find_tokenizers(place, told)
    source, target = (both.source, both.target) if isinstance(both, PairTokenizers) else (both, both)
    return {
        str(entry["tokenizer"]): source.content.encode(),
        str(entry["target_tokenizer"]): target.content.encode(),
    }
