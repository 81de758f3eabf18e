"""Image classifiers in Hugging Face's layout: config.json, weights, preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.data import ImagePreprocessing
from edgekit.errors import ModelError
from edgekit.load.image_processor import FILE as PROCESSOR
from edgekit.load.image_processor import read_image_processor
from edgekit.load.pretrained import CONFIG, load_config, load_module, require_transformers, told_by, untrained_module
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel

if TYPE_CHECKING:
    from torch import nn

INPUT = "pixel_values"
_CLASS = "AutoModelForImageClassification"


def load_hugging_face(directory: Path, *, trust_remote_code: bool = False) -> TrainedModel:
    """Load an image classifier.

    Args:
        directory: As `save_pretrained` wrote it.
        trust_remote_code: Whether Python files in it may run.

    Raises:
        ModelError: if it has no weights, damaged ones, others than its config wants, code of its own, or is no image
            classifier.
        MissingPackageError: without transformers.
    """
    require_transformers()
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    config = load_config(directory, KNOWN, "image classifier", trust_remote_code=trust_remote_code)
    module = load_module(_CLASS, directory, config, trust_remote_code=trust_remote_code)
    preprocessing = _preprocessing(directory, int(getattr(config, "num_channels", 3)))
    classes = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    card = ModelCard(
        family=f"hf:{config.model_type}",
        size="",
        task="classification",
        data="",
        classes=classes,
        inputs=(_input(config, preprocessing, directory),),
        preprocessing=preprocessing.as_dict() if preprocessing else {},
        architecture={"hf": told_by(config)},
    )
    return TrainedModel(_logits_of(module).eval(), card)


def build_hugging_face(config: Mapping[str, Any]) -> nn.Module:
    """The untrained module of a configuration; only of architectures that transformers itself has."""
    return _logits_of(untrained_module("AutoModelForImageClassification", config))


def _preprocessing(directory: Path, channels: int) -> ImagePreprocessing | None:
    path = directory / PROCESSOR
    if not path.is_file():
        progress.warn(f"{directory} has no {PROCESSOR}: the exported file says nothing of how pictures are prepared")
        return None
    try:
        return read_image_processor(path, channels)
    except ModelError as error:
        progress.warn(f"{error}; the exported file says nothing of how pictures are prepared")
        return None


def _input(config: Any, preprocessing: ImagePreprocessing | None, directory: Path) -> TensorSpec:
    channels = int(getattr(config, "num_channels", 3))
    if preprocessing:
        return TensorSpec(INPUT, "float32", ("batch", channels, preprocessing.height, preprocessing.width))
    size = getattr(config, "image_size", None)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    if not height or not width:
        raise ModelError(
            f"neither {CONFIG} nor a {PROCESSOR} in {directory} says how large pictures are; add the latter"
        )
    return TensorSpec(INPUT, "float32", ("batch", channels, int(height), int(width)))


def _logits_of(model: Any) -> nn.Module:
    """The model as a function of pictures to logits; float (n, channels, height, width) -> (n, classes)."""
    from torch import Tensor, nn

    class ImageClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Tensor) -> Tensor:
            return self.model(pixel_values=pixel_values).logits  # type: ignore[no-any-return]

    return ImageClassifier()
