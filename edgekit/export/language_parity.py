"""Language models in ONNX against torch: batches, lengths, padding, and generation with a cache against without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.errors import ExportError
from edgekit.load.language import LanguageModel
from edgekit.ort import Session
from edgekit.specs import Array, Feeds, TensorSpec

BATCHES = (1, 2, 7)
LENGTHS = (1, 3, 64)
TOLERANCE = 1e-4
# Of the longest text: values of logits and attention, and multiplications; limits of time, not of the model.
_MOST_VALUES, _MOST_PRODUCTS = 1 << 27, 1 << 37
_UNSAID_LENGTH = 512
# Their positions are numbered from the padding token's id on.
_COUNT_FROM_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "mpnet")
_DECODER_LENGTH = 4  # tokens that a decoder behind an encoder is asked for


@dataclass(frozen=True)
class LanguageParity:
    """The largest differences between torch and ONNX Runtime.

    Attributes:
        max_abs: Largest absolute difference.
        max_rel: Largest difference relative to the largest absolute output of torch.
        batches: Batch sizes that were run.
        lengths: Tokens (samples of sound, for models of sound) that were run; the longest at batch 1.
        padded: Whether texts of different lengths were run in one batch.
        cached: Whether continuing from a cache was compared with reading the whole text.
    """

    max_abs: float
    max_rel: float
    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    padded: bool
    cached: bool


@dataclass
class _Differences:
    """What has been compared so far."""

    max_abs: float = 0.0
    largest: float = 0.0
    batches: set[int] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)
    padded: bool = False
    cached: bool = False

    def compare(self, wanted: Array, got: Array, kept: Array | None, where: str) -> None:
        """Take one output into account; of padded texts only what stands at real tokens."""
        if wanted.shape != got.shape:
            raise ExportError(f"the export gives shape {got.shape} at {where}, torch gives {wanted.shape}")
        a, b = (wanted, got) if kept is None or kept.all() else (wanted[kept], got[kept])
        worst = float(np.abs(a - b).max(initial=0.0))
        self.max_abs = max(self.max_abs, worst if np.isfinite(worst) else np.inf)
        self.largest = max(self.largest, float(np.abs(a).max(initial=0.0)))
        if not self.max_abs <= TOLERANCE * max(1.0, self.largest):
            raise ExportError(
                f"the exported model differs from torch by {self.max_abs:.3g} at {where}; at most "
                f"{TOLERANCE:.0e} of the largest output is allowed"
            )

    def ran(self, batch: int, length: int) -> None:
        self.batches.add(batch)
        self.lengths.add(length)

    def result(self) -> LanguageParity:
        relative = self.max_abs / self.largest if self.largest else 0.0
        batches, lengths = tuple(sorted(self.batches)), tuple(sorted(self.lengths))
        return LanguageParity(self.max_abs, relative, batches, lengths, self.padded, self.cached)


def check_language_parity(model: LanguageModel, sessions: Mapping[str, Session]) -> LanguageParity:
    """Run torch and ONNX Runtime on the same random texts.

    Args:
        model: In torch.
        sessions: "model", or "encoder" and "decoder".

    Raises:
        ExportError: if an output differs by more than 1e-4 of the largest output (at least 1), or in its shape.
    """
    found = _Differences()
    checks: dict[str, Callable[..., None]] = {
        "encoder": _check_encoder,
        "decoder": _check_decoder,
        "seq2seq": _check_seq2seq,
        "audio": _check_audio,
    }
    checks[model.head.kind](model, sessions, found)
    return found.result()


def longest_of(model: LanguageModel) -> int | None:
    """The most tokens that a model takes; None where it knows no limit."""
    config = model.config
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
    said = next((int(getattr(config, n)) for n in names if getattr(config, n, None)), None)
    if said and config.model_type in _COUNT_FROM_PADDING and isinstance(config.pad_token_id, int):
        return said - config.pad_token_id - 1
    return said


def _grid(model: LanguageModel) -> Iterator[tuple[int, int, bool]]:
    """Batch, length, and whether the texts differ in length."""
    most = longest_of(model) or _UNSAID_LENGTH
    for length in (n for n in LENGTHS if n < most):
        for batch in BATCHES:
            yield batch, length, False
            if batch > 1 and length > 1:
                yield batch, length, True
    yield 1, _affordable(model, most), False


def _affordable(model: LanguageModel, length: int) -> int:
    """The length, halved until a text of it is quick enough to be run."""
    heads = int(getattr(model.config, "num_attention_heads", 8) or 8)
    width = int(getattr(model.config, "vocab_size", 1) or 1) if "generation" in model.head.task else 1
    weights = sum(p.numel() for p in model.module.parameters())
    while heads * length**2 + width * length > _MOST_VALUES or weights * length > _MOST_PRODUCTS:
        length //= 2
    return max(1, length)


def _mask(batch: int, length: int, seed: int, *, padded: bool = False, left: bool = False) -> Array:
    """Ones for tokens, zeros for padding; int64 (batch, length), at least one token a text."""
    mask = np.ones((batch, length), np.int64)
    if not padded:
        return mask
    kept = np.random.default_rng(seed).integers(1, length + 1, batch)
    kept[0] = length
    places = np.arange(length)
    mask = (places >= length - kept[:, None] if left else places < kept[:, None]).astype(np.int64)
    return np.asarray(mask)


def _text_feeds(
    model: LanguageModel, inputs: tuple[TensorSpec, ...], mask: Array, past: Mapping[str, Array] | None
) -> dict[str, Array]:
    """Random ids with padding where the mask is 0, in the graph's order; an empty past where none is given."""
    values = {"input_ids": _ids(model, mask), "attention_mask": mask, "position_ids": _positions(mask)}
    values["token_type_ids"] = np.zeros_like(mask)
    for spec in inputs:
        if spec.name.startswith("past_key_values"):
            values[spec.name] = (past or {}).get(spec.name, _empty(spec, len(mask)))
    return {s.name: values[s.name].astype(s.dtype) for s in inputs}


def _ids(model: LanguageModel, mask: Array) -> Array:
    """Ids that are no padding where there is a token, the padding's id elsewhere."""
    size = int(model.config.vocab_size)
    padding = model.config.pad_token_id
    padding = int(padding) if isinstance(padding, int) and 0 <= padding < size else 0
    ids = np.random.default_rng(mask.size).integers(0, size - 1, mask.shape)
    ids += ids >= padding
    return np.where(mask == 1, ids, padding).astype(np.int64)


def _positions(mask: Array) -> Array:
    """As transformers counts them: from each text's first token on."""
    return np.where(mask == 1, mask.cumsum(axis=1) - 1, 1).astype(np.int64)


def _empty(spec: TensorSpec, batch: int, length: int = 0) -> Array:
    """A cache of nothing: (batch, heads, length, width)."""
    dims = [batch if i == 0 else d if isinstance(d, int) else length for i, d in enumerate(spec.shape)]
    return np.zeros(dims, spec.dtype)


def _torch_outputs(model: LanguageModel, feeds: Feeds, **options: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model.module(**{k: torch.from_numpy(v) for k, v in feeds.items()}, **options)


def _named(session: Session, feeds: Feeds) -> dict[str, Array]:
    return dict(zip((o.name for o in session.outputs), session.run(feeds), strict=True))


def _where(batch: int, length: int, padded: bool) -> str:
    return f"batch {batch}, length {length}{', padded' if padded else ''}"


def _check_encoder(model: LanguageModel, sessions: Mapping[str, Session], found: _Differences) -> None:
    session = sessions["model"]
    for batch, length, padded in _grid(model):
        mask = _mask(batch, length, batch, padded=padded)
        if padded and "attention_mask" not in {s.name for s in session.inputs}:
            continue
        feeds = _text_feeds(model, session.inputs, mask, None)
        wanted, got = _torch_outputs(model, feeds), _named(session, feeds)
        for spec in session.outputs:
            each_token = len(spec.shape) > 1 and isinstance(spec.shape[1], str)
            kept = mask == 1 if each_token else None
            found.compare(wanted[spec.name].numpy(), got[spec.name], kept, _where(batch, length, padded))
        found.ran(batch, length)
        found.padded |= padded


def _check_decoder(model: LanguageModel, sessions: Mapping[str, Session], found: _Differences) -> None:
    """The prompt at once; then again in two parts, the second with the first one's cache."""
    session = sessions["model"]
    caches = any(s.name.startswith("past_key_values") for s in session.inputs)
    for batch, length, padded in _grid(model):
        mask = _mask(batch, length, batch, padded=padded, left=True)
        feeds = _text_feeds(model, session.inputs, mask, None)
        plain = {k: v for k, v in feeds.items() if not k.startswith("past_key_values")}
        wanted = _torch_outputs(model, plain, use_cache=False).logits.numpy()
        where = _where(batch, length, padded)
        found.compare(wanted, _named(session, feeds)["logits"], mask == 1, where)
        if caches and length > 1:
            got = _in_two_parts(session, feeds, max(1, min(length // 2, length - 1)))
            found.compare(wanted, got, mask == 1, f"{where}, with the cache")
            found.cached = True
        found.ran(batch, length)
        found.padded |= padded


def _in_two_parts(session: Session, feeds: dict[str, Array], cut: int) -> Array:
    """Logits of a text that is read in two parts: (batch, length, vocabulary)."""
    texts = ("input_ids", "position_ids")
    first = {k: v[:, :cut] if k in (*texts, "attention_mask") else v for k, v in feeds.items()}
    start = _named(session, first)
    cache = {k: start[k.replace("past_key_values", "present")] for k in feeds if k.startswith("past_key_values")}
    rest = {k: v[:, cut:] if k in texts else v for k, v in feeds.items()}
    return np.concatenate([start["logits"], _named(session, {**rest, **cache})["logits"]], axis=1)


def _check_seq2seq(model: LanguageModel, sessions: Mapping[str, Session], found: _Differences) -> None:
    """Encoder and decoder together, the decoder without a cache and then a token at a time with one."""
    encoder = sessions["encoder"]
    sound = encoder.inputs[0].name == "input_features"
    for batch, length, padded in _sounds(encoder) if sound else _grid(model):
        mask = _mask(batch, length, batch, padded=padded)
        feeds = _sound_feeds(encoder, batch) if sound else _text_feeds(model, encoder.inputs, mask, None)
        hidden = encoder.run(feeds)[0]
        asked = _ids(model, np.ones((batch, _DECODER_LENGTH), np.int64))
        wanted = _torch_outputs(model, {**feeds, "decoder_input_ids": asked}, use_cache=False)
        where = _where(batch, length, padded)
        kept = None if sound else mask == 1
        found.compare(wanted.encoder_last_hidden_state.numpy(), hidden, kept, f"{where}, encoder")
        given = {"encoder_hidden_states": hidden, "encoder_attention_mask": mask}
        found.compare(wanted.logits.numpy(), _decode(sessions["decoder"], given, asked), None, where)
        found.ran(batch, length)
        found.padded |= padded
        found.cached = True


def _sounds(encoder: Session) -> Iterator[tuple[int, int, bool]]:
    """A spectrogram has one length."""
    length = encoder.inputs[0].shape[-1]
    for batch in BATCHES:
        yield batch, int(length) if isinstance(length, int) else 0, False


def _sound_feeds(encoder: Session, batch: int) -> dict[str, Array]:
    shape = [batch, *(int(d) for d in encoder.inputs[0].shape[1:])]
    return {encoder.inputs[0].name: np.random.default_rng(batch).standard_normal(shape).astype(np.float32)}


def _decode(decoder: Session, given: Mapping[str, Array], ids: Array) -> Array:
    """Logits of the ids, all but the last from one run without a cache: (batch, length, vocabulary)."""
    batch, cut = len(ids), ids.shape[1] - 1
    pasts = [s for s in decoder.inputs if s.name.startswith("past_key_values")]
    cache = {s.name: _empty(s, batch, 1) for s in pasts}
    start = _named(decoder, _decoder_feeds(decoder, {**given, **cache}, ids[:, :cut], cached=False))
    cache = {s.name: start[s.name.replace("past_key_values", "present")] for s in pasts}
    step = _named(decoder, _decoder_feeds(decoder, {**given, **cache}, ids[:, cut:], cached=True))
    return np.concatenate([start["logits"], step["logits"]], axis=1)


def _decoder_feeds(decoder: Session, given: Mapping[str, Array], ids: Array, *, cached: bool) -> dict[str, Array]:
    values = {**given, "input_ids": ids, "use_cache_branch": np.array([cached])}
    values["cache_position"] = np.arange(ids.shape[1]) + (_cached_tokens(given) if cached else 0)
    return {s.name: values[s.name].astype(s.dtype) for s in decoder.inputs}


def _cached_tokens(cache: Mapping[str, Array]) -> int:
    return next(int(v.shape[2]) for k, v in cache.items() if k.startswith("past_key_values") and ".decoder." in k)


def _check_audio(model: LanguageModel, sessions: Mapping[str, Session], found: _Differences) -> None:
    """Sound of as many samples as give 1, 3 and 64 frames."""
    session, rng = sessions["model"], np.random.default_rng(0)
    for frames in LENGTHS:
        length = _samples(model.config, frames)
        for batch in BATCHES:
            sound = rng.standard_normal((batch, length)).astype(np.float32)
            feeds = {session.inputs[0].name: sound}
            for name, got in _named(session, feeds).items():
                found.compare(_torch_outputs(model, feeds)[name].numpy(), got, None, _where(batch, length, False))
            found.ran(batch, length)


def _samples(config: Any, frames: int) -> int:
    """The fewest samples from which the convolutions make so many frames."""
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        frames = (frames - 1) * stride + kernel
    return int(frames)
