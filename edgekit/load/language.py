"""Language and speech models in Hugging Face's layout, or in one .gguf file: their heads and weights."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ModelError, brief
from edgekit.load.pretrained import (
    LOADING_ERRORS,
    load_config,
    load_module,
    quiet,
    read_config_file,
    require_transformers,
    types_with,
)

if TYPE_CHECKING:
    from torch import nn

GGUF = ".gguf"
_GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Head:
    """What a language model is used for.

    Attributes:
        task: Its name, as the hub and optimum have it.
        auto_class: Name of transformers' class.
        names: Model classes whose name ends so have this head.
        kind: How it is called: "encoder", "decoder" (next token, mostly with past), "seq2seq" or "audio".
        optional: Patterns of weights that may be missing.
    """

    task: str
    auto_class: str
    names: tuple[str, ...]
    kind: str = "encoder"
    optional: tuple[str, ...] = ()


_POOLER = ("pooler.*", "*.pooler.*")
# The first whose name fits wins.
_HEADS = (
    Head(
        "automatic-speech-recognition-with-past",
        "AutoModelForSpeechSeq2Seq",
        ("WhisperForConditionalGeneration",),
        "seq2seq",
    ),
    Head("automatic-speech-recognition", "AutoModelForCTC", ("ForCTC",), "audio"),
    Head(
        "audio-classification",
        "AutoModelForAudioClassification",
        tuple(f"{n}ForSequenceClassification" for n in ("Wav2Vec2", "Hubert", "WavLM", "UniSpeechSat", "SEW")),
        "audio",
    ),
    Head("text2text-generation-with-past", "AutoModelForSeq2SeqLM", ("ForConditionalGeneration",), "seq2seq"),
    Head("text-generation-with-past", "AutoModelForCausalLM", ("ForCausalLM", "LMHeadModel"), "decoder"),
    Head("text-generation", "AutoModelForCausalLM", (), "decoder"),
    Head("text-classification", "AutoModelForSequenceClassification", ("ForSequenceClassification",)),
    Head("token-classification", "AutoModelForTokenClassification", ("ForTokenClassification",), optional=_POOLER),
    Head("question-answering", "AutoModelForQuestionAnswering", ("ForQuestionAnswering",), optional=_POOLER),
    Head("fill-mask", "AutoModelForMaskedLM", ("ForMaskedLM",), optional=_POOLER),
    Head("feature-extraction", "AutoModel", ("Model", "ForPreTraining"), optional=_POOLER),
)
HEADS: dict[str, Head] = {h.task: h for h in _HEADS}


@dataclass(frozen=True)
class LanguageModel:
    """A model of transformers with its weights.

    Attributes:
        module: In evaluation mode, float32.
        head: What it is used for.
        source: The directory, or the .gguf file.
    """

    module: nn.Module
    head: Head
    source: Path

    @property
    def config(self) -> Any:
        """Transformers' configuration."""
        return self.module.config

    @property
    def directory(self) -> Path:
        """Where tokeniser and configurations lie."""
        return self.source.parent if self.source.suffix == GGUF else self.source


def find_head(source: Path, task: str = "") -> Head | None:
    """The head of a model, or None where it is no language or speech model.

    Args:
        source: Directory in Hugging Face's layout, or a .gguf file.
        task: As the user asked for it; "" takes what the model's class says.

    Raises:
        ModelError: if config.json cannot be read, or the class has no head that is known and none was asked for.
    """
    if task in HEADS:
        return HEADS[task]
    if source.suffix == GGUF:
        return HEADS["text-generation-with-past"]
    said = read_config_file(source)
    names = said.get("architectures") or []
    if said.get("model_type") not in _model_types() or any("ForImage" in str(n) for n in names):
        return None
    found = next((h for n in names for h in _HEADS if h.names and str(n).endswith(h.names)), None)
    if found is None:
        raise ModelError(
            f"{source}/config.json names {', '.join(map(str, names)) or 'no architecture'}, which says nothing of what "
            f"the model is for; say it: --task {' or '.join(HEADS)}"
        )
    return found


def load_language(source: Path, head: Head, *, trust_remote_code: bool = False) -> LanguageModel:
    """Load a model with its weights, in float32.

    Args:
        source: Directory in Hugging Face's layout, or a .gguf file.
        head: What to load it for.
        trust_remote_code: Whether Python files in the directory may run.

    Raises:
        ModelError: if it is missing, damaged, of no type with this head, or wants code of its own to run.
        MissingPackageError: without transformers; without gguf for a .gguf file.
    """
    require_transformers()
    if source.suffix == GGUF:
        return LanguageModel(_load_gguf(source), head, source)
    known = _model_types() if head.auto_class == "AutoModel" else types_with(head.auto_class)
    config = load_config(source, known, f"model for {head.task}", trust_remote_code=trust_remote_code)
    module = load_module(head.auto_class, source, config, trust_remote_code=trust_remote_code, optional=head.optional)
    return LanguageModel(module, head, source)


def _load_gguf(file: Path) -> nn.Module:
    """Weights of llama.cpp's format, as floats again."""
    require_transformers("gguf", "accelerate")
    import torch
    from transformers import AutoModelForCausalLM

    check_gguf(file)
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # its bar knows no switch
            module = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True
            )
    except (*LOADING_ERRORS, IndexError, ImportError) as error:
        raise ModelError(f"{file} cannot be loaded: {brief(error)}") from error
    return module.eval()  # type: ignore[no-any-return]


def check_gguf(file: Path) -> None:
    """Refuse what is no .gguf file before it is parsed.

    Raises:
        ModelError: if it is not there, or begins otherwise.
    """
    if not file.is_file():
        raise ModelError(f"{file} is not there; give a .gguf file")
    with file.open("rb") as opened:
        head = opened.read(len(_GGUF_MAGIC))
    if head != _GGUF_MAGIC:
        raise ModelError(f"{file} is no GGUF file: it begins with {head!r}; copy or download it again")


def _model_types() -> frozenset[str]:
    """Types that have any head but the bare model, which every type has."""
    require_transformers()
    return frozenset().union(*(types_with(h.auto_class) for h in _HEADS if h.auto_class != "AutoModel"))
