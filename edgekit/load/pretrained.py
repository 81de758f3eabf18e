"""What every Hugging Face model needs: its config.json read with care, its weights checked, then its own class."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.errors import MissingPackageError, ModelError, brief
from edgekit.load.weights import read_weights

if TYPE_CHECKING:
    from torch import nn

CONFIG = "config.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# Classes of transformers -> where it lists the model types that have them.
_MAPPINGS = {
    "AutoModelForSpeechSeq2Seq": "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "AutoModelForCTC": "MODEL_FOR_CTC_MAPPING_NAMES",
    "AutoModelForAudioClassification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForSeq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForTokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForQuestionAnswering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
}
# What transformers raises on configs and weights that do not fit, as tried on damaged ones.
LOADING_ERRORS = (RuntimeError, ValueError, OSError, KeyError, TypeError, AttributeError)


def is_hugging_face(directory: Path) -> bool:
    """Whether a directory has a config.json that names a model type, which ours never does."""
    try:
        return "model_type" in json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def require_transformers(*others: str) -> None:
    """Refuse with the line that installs it where the hf extra, or one of these parts of it, is missing."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers", *others) if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"Hugging Face models need {', '.join(missing)}; install it: pip install 'edgekit[train,hf]'"
        )


def read_config_file(directory: Path) -> dict[str, Any]:
    """A directory's config.json.

    Raises:
        ModelError: if it is missing or damaged.
    """
    path = directory / CONFIG
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is missing or damaged ({brief(error)}); copy or download it again") from error


def load_config(directory: Path, known: Collection[str], kind: str, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a model, as transformers makes it.

    Args:
        directory: As `save_pretrained` wrote it.
        known: Model types that are allowed, unless code that comes with the model may run.
        kind: What these are, with an article, for the message.
        trust_remote_code: Whether Python files in the directory may run.

    Raises:
        ModelError: if it is missing, damaged, of another type, or asks to run code that is not trusted.
    """
    from transformers import AutoConfig

    path, said = directory / CONFIG, read_config_file(directory)
    if "auto_map" in said and not trust_remote_code:
        raise ModelError(
            f"{path} asks to run Python code of its own ({', '.join(map(str, said['auto_map'].values()))}); edgekit "
            "runs no code that comes with a model: read it, then add --trust-remote-code"
        )
    if said.get("model_type") not in known and not trust_remote_code:
        raise ModelError(
            f"{path}: model type {said.get('model_type')!r} is no {kind} that transformers {_version()} knows; edgekit "
            f"takes {', '.join(sorted(known))}"
        )
    try:
        with quiet():
            return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=trust_remote_code)
    except LOADING_ERRORS as error:
        raise ModelError(f"{path} cannot be used: {brief(error)}") from error


def types_with(auto_class: str) -> frozenset[str]:
    """Model types that have a class of transformers, such as "AutoModelForCausalLM"."""
    from transformers.models.auto import modeling_auto

    return frozenset(getattr(modeling_auto, _MAPPINGS[auto_class]))


def load_module(
    auto_class: str, directory: Path, config: Any, *, trust_remote_code: bool = False, optional: Sequence[str] = ()
) -> nn.Module:
    """A model with its weights, in float32.

    Args:
        auto_class: Name of transformers' class, such as "AutoModelForCausalLM".
        directory: As `save_pretrained` wrote it.
        config: Of the model.
        trust_remote_code: Whether Python files in the directory may run.
        optional: Patterns of weights that may be missing, because what is made of the model does not use them.

    Raises:
        ModelError: if there are no weights, damaged ones, or others than the config wants.
    """
    import torch
    import transformers

    files = _check_weights(directory)
    try:
        with quiet():
            module, found = getattr(transformers, auto_class).from_pretrained(
                directory,
                config=config,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                use_safetensors=files[0].suffix == ".safetensors",
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, all at once
            )
    except LOADING_ERRORS as error:
        raise ModelError(f"{directory} cannot be loaded: {brief(error)}") from error
    found["missing_keys"] = [k for k in found["missing_keys"] if not any(fnmatchcase(k, o) for o in optional)]
    _refuse_misfits(directory, found, {k: tuple(v.shape) for k, v in module.state_dict().items()})
    return module.eval()  # type: ignore[no-any-return]


def told_by(config: Any) -> dict[str, Any]:
    """A configuration of transformers as JSON holds it, without the place that it came from."""
    said = json.loads(config.to_json_string(use_diff=False))
    return {k: v for k, v in said.items() if k not in ("_name_or_path", "transformers_version")}


def untrained_module(auto_class: str, told: Mapping[str, Any]) -> nn.Module:
    """The module of a configuration, only of architectures that transformers itself has.

    Args:
        auto_class: Name of transformers' class, such as "AutoModelForCausalLM".
        told: By `told_by`.
    """
    require_transformers()
    import transformers

    known = {k: v for k, v in told.items() if k not in ("model_type", "auto_map", "architectures")}
    with quiet():
        made = transformers.AutoConfig.for_model(told["model_type"], **known)
        return getattr(transformers, auto_class).from_config(made)  # type: ignore[no-any-return]


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


def _refuse_misfits(directory: Path, found: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """What transformers fills with random numbers and a warning is an error here."""
    lines = [f"missing {name}" for name in sorted(found["missing_keys"])]
    lines += [f"shape of {name}: it must be {wanted[name]}" for name in sorted(found["mismatched_keys"])]
    if lines:
        raise ModelError("\n".join([f"the weights in {directory} do not fit its {CONFIG}: {len(lines)} names", *lines]))
    if found["unexpected_keys"]:
        progress.note(f"not taken from {directory}: {', '.join(sorted(found['unexpected_keys']))}")


@contextmanager
def quiet() -> Iterator[None]:
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


def _version() -> str:
    from importlib import metadata

    return metadata.version("transformers")
