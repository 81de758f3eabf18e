"""Image classifiers in Hugging Face's layout: config.json, weights, preprocessor_config.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.data import ImagePreprocessing
from edgekit.errors import MissingPackageError, ModelError
from edgekit.load.image_processor import FILE as PROCESSOR
from edgekit.load.image_processor import read_image_processor
from edgekit.load.weights import read_weights
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel

if TYPE_CHECKING:
    from torch import nn

CONFIG = "config.json"
INPUT = "pixel_values"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def is_hugging_face(directory: Path) -> bool:
    """Whether a directory has a config.json that names a model type, which ours never does."""
    try:
        return "model_type" in json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


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
    _require_transformers()
    config = _config(directory, trust_remote_code)
    files = _check_weights(directory)
    module = _pretrained(directory, config, files, trust_remote_code)
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
        architecture={"hf": _said_of(config)},
    )
    return TrainedModel(_logits_of(module).eval(), card)


def _said_of(config: Any) -> dict[str, Any]:
    """The configuration as JSON holds it, without the place that it came from."""
    said = json.loads(config.to_json_string(use_diff=False))
    return {k: v for k, v in said.items() if k not in ("_name_or_path", "transformers_version")}


def build_hugging_face(config: Mapping[str, Any]) -> nn.Module:
    """The untrained module of a configuration; only of architectures that transformers itself has."""
    _require_transformers()
    from transformers import AutoConfig, AutoModelForImageClassification

    known = {k: v for k, v in config.items() if k not in ("model_type", "auto_map", "architectures")}
    with _quiet():
        made = AutoConfig.for_model(config["model_type"], **known)
        return _logits_of(AutoModelForImageClassification.from_config(made))


def _require_transformers() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"Hugging Face models need {', '.join(missing)}; install it: pip install 'edgekit[train,hf]'"
        )


def _config(directory: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    path = directory / CONFIG
    said = _read(path)
    if "auto_map" in said and not trust_remote_code:
        raise ModelError(
            f"{path} asks to run Python code of its own ({', '.join(map(str, said['auto_map'].values()))}); edgekit "
            "runs no code that comes with a model: read it, then add --trust-remote-code"
        )
    kind = said.get("model_type")
    if kind not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES and not trust_remote_code:
        raise ModelError(
            f"{path}: model type {kind!r} is no image classifier that transformers {_version()} knows; edgekit takes "
            f"{', '.join(sorted(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES))}"
        )
    try:
        with _quiet():
            return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be used: {_brief(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is missing or damaged ({_brief(error)}); copy or download it again") from error


def _check_weights(directory: Path) -> list[Path]:
    """The weight files, after each was read by our own careful reader."""
    for pattern in _WEIGHTS:
        files = sorted(directory.glob(pattern))
        if files:
            for file in files:
                read_weights(file)
            return files
    others = sorted(p.name for p in directory.iterdir() if p.is_file())
    raise ModelError(
        f"{directory} has no weights: neither model.safetensors nor pytorch_model.bin, only "
        f"{', '.join(others) or 'nothing'}; copy or download them (`hf download ID --local-dir {directory}`)"
    )


def _pretrained(directory: Path, config: Any, files: list[Path], trust_remote_code: bool) -> nn.Module:
    import torch
    from transformers import AutoModelForImageClassification

    try:
        with _quiet():
            module, found = AutoModelForImageClassification.from_pretrained(
                directory,
                config=config,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                use_safetensors=files[0].suffix == ".safetensors",
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, all at once
            )
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{directory} cannot be loaded: {_brief(error)}") from error
    _refuse_misfits(directory, found, {k: tuple(v.shape) for k, v in module.state_dict().items()})
    return module  # type: ignore[no-any-return]


def _refuse_misfits(directory: Path, found: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """What transformers fills with random numbers and a warning is an error here."""
    lines = [f"missing {name}" for name in sorted(found["missing_keys"])]
    lines += [f"shape of {name}: it must be {wanted[name]}" for name in sorted(found["mismatched_keys"])]
    if lines:
        raise ModelError("\n".join([f"the weights in {directory} do not fit its {CONFIG}: {len(lines)} names", *lines]))
    if found["unexpected_keys"]:
        progress.note(f"not taken from {directory}: {', '.join(sorted(found['unexpected_keys']))}")


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


def _version() -> str:
    from importlib import metadata

    return metadata.version("transformers")


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers warns of what is an error here, and prints bars."""
    import warnings

    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
