"""Language models of Hugging Face as modules of ids to logits, which can be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.load.language import LanguageModel
from edgekit.load.pretrained import told_by, untrained_module
from edgekit.specs import TensorSpec
from edgekit.tasks.language import LANGUAGE_MODELLING
from edgekit.training.checkpoint import ModelCard, TrainedModel

if TYPE_CHECKING:
    from torch import nn


def trainable(model: LanguageModel) -> TrainedModel:
    """A model of the next token: ids, int64 (n, length), to logits (n, length, vocabulary)."""
    config = model.config
    positions = getattr(config, "max_position_embeddings", None)
    card = ModelCard(
        family=f"hf:{config.model_type}",
        size="",
        task=LANGUAGE_MODELLING.name,
        data="",
        classes=(),
        inputs=(TensorSpec("ids", "int64", ("batch", "length"), int(config.vocab_size)),),
        preprocessing={},
        architecture={
            "hf": told_by(config),
            "causal": True,
            **({"limits": {"length": int(positions)}} if positions else {}),
        },
    )
    return TrainedModel(_logits_of(model.module).eval(), card)


def build_causal(config: Mapping[str, Any]) -> nn.Module:
    """The untrained module of a configuration; only of architectures that transformers itself has."""
    return _logits_of(untrained_module("AutoModelForCausalLM", config))


def _logits_of(model: Any) -> nn.Module:
    """The model as a function of ids to logits, every text read from its beginning."""
    from torch import Tensor, nn

    class NextToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor) -> Tensor:
            return self.model(input_ids=ids, use_cache=False).logits  # type: ignore[no-any-return]

    return NextToken()
