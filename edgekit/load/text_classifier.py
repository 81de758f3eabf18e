"""Hugging Face encoders as text classifiers that can be trained on: ids and mask to logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.errors import ModelError
from edgekit.load.language import HEADS, Head
from edgekit.load.pretrained import (
    load_config,
    load_module,
    read_config_file,
    require_transformers,
    told_by,
    types_with,
    untrained_module,
)
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel

if TYPE_CHECKING:
    from torch import nn

HEAD = HEADS["text-classification"]
_LAST_LAYERS = ("classifier.*", "pre_classifier.*", "score.*", "bert.pooler.*")


def load_text_classifier(directory: Path, head: Head, *, trust_remote_code: bool = False) -> TrainedModel:
    """Load an encoder of text with a head for classes; a model that has none gets an untrained one.

    Args:
        directory: As `save_pretrained` wrote it.
        head: What the model is for, as its class says.
        trust_remote_code: Whether Python files in it may run.

    Returns:
        A model of ids and mask, int64 (n, length), to logits (n, classes). Where its head is untrained, its card has no
        classes and says so under `architecture`.

    Raises:
        ModelError: if it is damaged, or no encoder of text.
    """
    require_transformers()
    if head.kind != "encoder":
        raise ModelError(
            f"{directory} is a model for {head.task}: it can be exported (`edgekit export {directory} --out M.onnx`), "
            "but not evaluated or trained on here; give an encoder such as BERT, or the exported file"
        )
    known = types_with(HEAD.auto_class)
    config = load_config(directory, known, "text classifier", trust_remote_code=trust_remote_code)
    fresh = head is not HEAD
    module = load_module(
        HEAD.auto_class,
        directory,
        config,
        trust_remote_code=trust_remote_code,
        optional=_LAST_LAYERS if fresh else (),
    )
    if fresh:
        progress.note(f"{directory} is a model for {head.task}: its layer for classes is untrained")
    return TrainedModel(_logits_of(module).eval(), _card(config, fresh, directory))


def build_text_classifier(config: Mapping[str, Any]) -> nn.Module:
    """The untrained module of a configuration; only of architectures that transformers itself has."""
    return _logits_of(untrained_module(HEAD.auto_class, config))


def _card(config: Any, fresh: bool, directory: Path) -> ModelCard:
    ids = TensorSpec("ids", "int64", ("batch", "length"), int(config.vocab_size))
    mask = TensorSpec("mask", "int64", ("batch", "length"))
    positions = getattr(config, "max_position_embeddings", None) or read_config_file(directory).get("n_positions")
    return ModelCard(
        family=f"hf:{config.model_type}",
        size="",
        task="classification",
        data="",
        classes=() if fresh else tuple(str(config.id2label[i]) for i in range(config.num_labels)),
        inputs=(ids, mask),
        preprocessing={},
        architecture={
            "hf": told_by(config),
            "text": True,
            **({"limits": {"length": int(positions)}} if positions else {}),
            **({"untrained_head": True} if fresh else {}),
        },
    )


def _logits_of(model: Any) -> nn.Module:
    """The model as a function of ids and mask to logits; int64 (n, length) twice -> float (n, classes)."""
    from torch import Tensor, nn

    class TextClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return self.model(input_ids=ids, attention_mask=mask).logits  # type: ignore[no-any-return]

    return TextClassifier()
