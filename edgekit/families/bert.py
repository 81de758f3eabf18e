"""BERT: an encoder of text that is trained on masked tokens and next sentences, and then on a task of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.errors import RecipeError
from edgekit.families.family import Family, Inputs, Part
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

_TEXT = ("ids", "mask")
_PAIRS = (*_TEXT, "segments")


def build_bert(
    inputs: Inputs,
    outputs: int,
    *,
    width: int,
    depth: int,
    heads: int,
    positions: int,
    dropout: float = 0.0,
    task: str = "masked-language-modelling",
) -> nn.Module:
    """Build a BERT with the head of a task.

    Args:
        inputs: ids, which know their vocabulary, and mask, int64 (n, length) each; segments too for pretraining.
        outputs: Number of classes; not looked at for pretraining.
        width: Of a token.
        depth: Number of blocks.
        heads: Of each attention.
        positions: The longest text, in tokens.
        dropout: After the embedding, each attention, each MLP, and before the classes.
        task: "masked-language-modelling", "classification" or "step-classification", one class a token.

    Returns:
        A module: float (n, length, vocabulary) and (n, 2) for pretraining, (n, outputs) or (n, length, outputs) for
        classes. All have the same `encoder`.

    Raises:
        RecipeError: if the inputs are others.
    """
    from edgekit.families.bert_module import Classifier, Encoder, Pretraining, TokenClassifier

    wanted = _PAIRS if task == "masked-language-modelling" else _TEXT
    vocabulary = inputs[0].vocabulary if inputs else None
    if tuple(s.name for s in inputs) != wanted or vocabulary is None:
        raise RecipeError(
            f"family 'bert' takes {', '.join(wanted)} (batch, length) of a text for {task}, got "
            f"{', '.join(map(str, inputs))}; choose other data or another family (`edgekit list families`)"
        )
    encoder = Encoder(vocabulary, width, depth, heads, positions, dropout)
    heads_of: dict[str, Callable[[], nn.Module]] = {
        "masked-language-modelling": lambda: Pretraining(encoder, width),
        "classification": lambda: Classifier(encoder, width, outputs, dropout),
        "step-classification": lambda: TokenClassifier(encoder, width, outputs, dropout),
    }
    return _started(heads_of[task]())


def _started(module: nn.Module) -> nn.Module:
    """Weights from N(0, 0.02), as the paper's own code has them."""
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Embedding)):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module


def _embedder(module: nn.Module) -> nn.Module:
    from edgekit.families.bert_module import Embedder

    return Embedder(module.get_submodule("encoder"))


def _text_only(inputs: Inputs, size: Mapping[str, Any]) -> Inputs:
    """Ids and mask; an embedding is of one text."""
    return tuple(s for s in inputs if s.name in _TEXT)


def pretraining_inputs(vocabulary: int) -> Inputs:
    """What pretraining takes: int64 (batch, length) each."""
    ids = TensorSpec("ids", "int64", ("batch", "length"), vocabulary)
    return (ids, TensorSpec("mask", "int64", ids.shape), TensorSpec("segments", "int64", ids.shape, 2))


BERT = Family(
    name="bert",
    summary="bidirectional encoder of text: masked tokens and next sentences, then classes of texts or tokens",
    paper="Devlin et al. 2018, arXiv:1810.04805; sentence embeddings: arXiv:1908.10084",
    tasks=("masked-language-modelling", "classification", "step-classification"),
    sizes={
        "pico": {"width": 32, "depth": 2, "heads": 2, "positions": 128},
        "small": {"width": 128, "depth": 4, "heads": 4, "positions": 256, "dropout": 0.1},
        "base": {"width": 256, "depth": 6, "heads": 8, "positions": 512, "dropout": 0.1},
    },
    build=build_bert,
    by_task=True,
    parts={"embedding": Part(_embedder, _text_only, ("sentence_embedding",))},
)
