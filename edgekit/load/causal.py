"""Hugging Face models that tell the next token of a text: found among sources, run in torch, and kept again."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.files import replacing
from edgekit.load.causal_module import trainable
from edgekit.load.language import Head, LanguageModel, find_head, load_language
from edgekit.load.pretrained import quiet
from edgekit.load.source import ModelSource, hugging_face_place
from edgekit.load.tokenizer import companions
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.training.checkpoint import TrainedModel

PLACE = "hf"  # of the directory in Hugging Face's layout, inside a checkpoint of ours
WEIGHTS = "model.safetensors"
_ONE_FILE = "1TB"


@dataclass(frozen=True)
class CausalSource:
    """Where such a model lies.

    Attributes:
        place: A directory, or a .gguf file.
        head: Its head.
        trust_remote_code: Whether Python files in the directory may run.
    """

    place: Path
    head: Head
    trust_remote_code: bool

    def load(self) -> LanguageModel:
        """The model with its weights, in float32.

        Raises:
            ModelError: as `load_language` raises it.
        """
        return load_language(self.place, self.head, trust_remote_code=self.trust_remote_code)

    def open(self) -> TrainedModel:
        """The model as one that can be trained on.

        Raises:
            ModelError: as `load_language` raises it.
        """
        return trainable(self.load())

    def keep(self, trained: TrainedModel, directory: Path) -> None:
        """Write what was trained in Hugging Face's layout, with the tokeniser and the settings that it came with.

        Args:
            trained: What `open` gave, trained on.
            directory: To write; the weights last.
        """
        module: Any = trained.module
        with tempfile.TemporaryDirectory(prefix="edgekit-hf-") as work:
            with quiet():
                module.model.save_pretrained(work, max_shard_size=_ONE_FILE)
            beside = companions(LanguageModel(module.model, self.head, self.place), Path(work) / "beside")
            for file in (*beside, Path(work) / WEIGHTS):
                with replacing(directory / file.name) as temporary:
                    shutil.copyfile(file, temporary)


def find_causal(source: ModelSource) -> CausalSource | None:
    """The model that a source names, if it tells the next token of a text; None for any other.

    Raises:
        ModelError: if it cannot be had, or nobody knows what it is for.
    """
    if source.hf is None:
        return None
    place = hugging_face_place(source.hf)
    head = find_head(place)
    causal = head is not None and head.kind == "decoder"
    return CausalSource(place, head, source.trust_remote_code) if head is not None and causal else None


@dataclass(frozen=True)
class TorchDecoder:
    """Such a model as a runner: ids, int64 (n, length), to logits, float32 (n, length, vocabulary).

    Attributes:
        model: In torch.
    """

    model: LanguageModel

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The ids."""
        return (TensorSpec("ids", "int64", ("batch", "length"), self._vocabulary),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The logits."""
        return (TensorSpec("logits", "float32", ("batch", "length", self._vocabulary)),)

    @property
    def _vocabulary(self) -> int:
        return int(self.model.config.vocab_size)

    def run(self, feeds: Feeds) -> list[Array]:
        """The logits of one batch, every text read from its beginning."""
        import torch

        ids = torch.from_numpy(np.ascontiguousarray(feeds["ids"]))
        with torch.inference_mode():
            return [self.model.module(input_ids=ids, use_cache=False).logits.numpy()]
