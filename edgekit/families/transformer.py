"""The transformer: a stack with a causal mask as a language model, or an encoder and a decoder for pairs of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.errors import ModelError, RecipeError
from edgekit.families.family import Family, Inputs, Part
from edgekit.families.text import CACHE, DECODER_SIZES, cached, itself, vocabulary_of, with_present
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from edgekit.families.encoder_decoder import EncoderDecoder

_PAIR = ("source", "mask", "target")


def build_transformer(
    inputs: Inputs,
    outputs: int,
    *,
    width: int,
    depth: int,
    heads: int,
    positions: int,
    dropout: float = 0.0,
    tied: bool = False,
    task: str = "language-modelling",
) -> nn.Module:
    """Build a transformer.

    Unlike the paper's, its layers normalise what goes in rather than what comes out (Xiong et al. 2020,
    arXiv:2002.04745): that trains without a long warm-up.

    Args:
        inputs: One input of ids (n, length), which knows its vocabulary; or source, mask and target.
        outputs: Not looked at: there is a logit for each token.
        width: Of a token; even.
        depth: Number of blocks; of the encoder and of the decoder, where there are both.
        heads: Of each attention.
        positions: The longest text, in tokens.
        dropout: After the embedding, each attention and each MLP.
        tied: Whether source and target share one table; the last layer shares that of the target always.
        task: "language-modelling" or "sequence-to-sequence".

    Returns:
        A module: int64 (n, length) -> float (n, length, vocabulary); or int64 (n, length) twice and
        (n, target length) -> float (n, target length, target vocabulary).

    Raises:
        RecipeError: if the inputs are others, of an unknown vocabulary, or to be tied and of two vocabularies.
    """
    if task == "sequence-to-sequence":
        return _encoder_decoder(inputs, width, depth, heads, positions, dropout, tied)
    from edgekit.families.decoder import Decoder, SinusoidalPositions

    places = SinusoidalPositions(positions, width)
    return Decoder(vocabulary_of(inputs, "transformer"), width, depth, heads, places, dropout, scale=width**0.5)


def _encoder_decoder(
    inputs: Inputs, width: int, depth: int, heads: int, positions: int, dropout: float, tied: bool
) -> nn.Module:
    from edgekit.families.encoder_decoder import EncoderDecoder

    known = {s.name: s.vocabulary for s in inputs}
    source, target = known.get("source"), known.get("target")
    if tuple(known) != _PAIR or source is None or target is None:
        raise RecipeError(
            f"family 'transformer' takes {', '.join(_PAIR)} for sequence-to-sequence, ids of a known vocabulary; got "
            f"{', '.join(map(str, inputs))}; choose data of pairs, such as `data: cmudict`"
        )
    if tied and source != target:
        raise RecipeError(
            f"family 'transformer' at this size has one table for both texts, and there are {source:,} tokens to read "
            f"and {target:,} to write; leave the data's `target_tokenizer` out, or choose a size without -tied"
        )
    return EncoderDecoder(source, target, width, depth, heads, positions, dropout, tied)


def _limits(size: Mapping[str, Any]) -> Mapping[str, int]:
    """Either text is as long as there are positions."""
    return {"length": size["positions"], "target_length": size["positions"]}


def _network(module: nn.Module) -> EncoderDecoder:
    from edgekit.families.encoder_decoder import EncoderDecoder

    if not isinstance(module, EncoderDecoder):
        raise ModelError("a language model is a decoder alone; export it without --part, or with --part cache")
    return module


def _encoder(module: nn.Module) -> nn.Module:
    from edgekit.families.encoder_decoder import EncoderPart

    return EncoderPart(_network(module))


def _decoder(module: nn.Module) -> nn.Module:
    from edgekit.families.encoder_decoder import DecoderPart

    return DecoderPart(_network(module))


def _remembering(module: nn.Module) -> nn.Module:
    """The module itself; only a language model remembers.

    Raises:
        ModelError: for an encoder and a decoder.
    """
    from edgekit.families.decoder import Decoder

    if not isinstance(module, Decoder):
        raise ModelError(
            "only a language model has the part 'cache'; take --part encoder-cache and --part decoder-cache, or "
            "--part encoder and --part decoder"
        )
    return itself(module)


def _read(inputs: Inputs, size: Mapping[str, Any]) -> Inputs:
    """What the encoder gets."""
    return tuple(s for s in inputs if s.name in ("source", "mask"))


def _written(inputs: Inputs, size: Mapping[str, Any]) -> Inputs:
    """What the decoder gets: the text so far, and what the encoder gave with its mask."""
    memory = TensorSpec("memory", "float32", ("batch", "length", size["width"]))
    named = {s.name: s for s in inputs} | {"memory": memory}
    return tuple(named[name] for name in ("target", "memory", "mask") if name in named)


def _cached_encoder(module: nn.Module) -> nn.Module:
    from edgekit.families.encoder_decoder import CachedEncoderPart

    return CachedEncoderPart(_network(module))


def _cached_decoder(module: nn.Module) -> nn.Module:
    from edgekit.families.encoder_decoder import CachedDecoderPart

    return CachedDecoderPart(_network(module))


def _looked_at(size: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of keys and values of what was read, for each block of the decoder."""
    return tuple(f"memory.{name}" for name in cached(size))


def _written_on(inputs: Inputs, size: Mapping[str, Any]) -> Inputs:
    """What a decoder with a cache gets: the next ids, and keys and values of what was read and what was written."""
    own, others = _heads_of_the_decoder(size)
    width = size.get("head_width") or size["width"] // size["heads"]
    kinds = (("memory", others, "length"), ("past_key_values", own, "past"))
    remembered = (
        TensorSpec(f"{kind}.{block}.{what}", "float32", ("batch", heads[block], dim, width))
        for kind, heads, dim in kinds
        for block in range(size["depth"])
        for what in ("key", "value")
    )
    named = {s.name: s for s in inputs}
    return (*(named[name] for name in ("target", "mask") if name in named), *remembered)


def _heads_of_the_decoder(size: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Of each block: of the attention to what was written, and of that to what was read."""
    if not isinstance(size["heads"], list):
        return [size["heads"]] * size["depth"], [size["heads"]] * size["depth"]
    both = size["heads"][-2 * size["depth"] :]  # pruning counts the encoder's first, then both of each block
    return both[::2], both[1::2]


_MINI = {"width": 128, "depth": 3, "heads": 4, "positions": 128, "dropout": 0.1}
_SIZES: dict[str, Mapping[str, Any]] = {
    **DECODER_SIZES,
    "base": {"width": 512, "depth": 6, "heads": 8, "positions": 1024, "dropout": 0.1},
    "mini": _MINI,
}

TRANSFORMER = Family(
    name="transformer",
    summary="self-attention with sinusoidal positions: a language model, or encoder and decoder for pairs of texts",
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    tasks=("language-modelling", "sequence-to-sequence"),
    sizes={**_SIZES, **{f"{name}-tied": {**size, "tied": True} for name, size in _SIZES.items()}},
    build=build_transformer,
    by_task=True,
    limits=_limits,
    parts={
        "cache": Part(_remembering, CACHE.inputs, CACHE.outputs),
        "encoder": Part(_encoder, _read, ("memory",)),
        "decoder": Part(_decoder, _written, ("logits",)),
        "encoder-cache": Part(_cached_encoder, _read, _looked_at),
        "decoder-cache": Part(_cached_decoder, _written_on, with_present),
    },
)
