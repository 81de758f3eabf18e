"""What a child process must know to measure one model, and its refusals in the caller's words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bench.records import BenchRequest
from edgekit.errors import ModelError, ProviderError
from edgekit.graph.read import read_structure
from edgekit.graph.vocabulary import vocabularies
from edgekit.ort.child import ask_child
from edgekit.ort.engines import Engine


def question_of(
    model: Path, provider: str, batch: int | None, request: BenchRequest, engine: Engine | None, archive: Any
) -> dict[str, Any]:
    """What every child asks for, as JSON.

    Args:
        model: The file.
        provider: Short name.
        batch: None means the batch that the model fixes, or 1.
        request: Threads, shapes, seed, device and strictness.
        engine: What was built for the provider before.
        archive: Where `archive.archived` left the inputs.
    """
    return {
        "model": str(model.resolve()),
        "provider": provider,
        "threads": request.thread_count,
        "batch": batch,
        "shapes": {name: list(shape) for name, shape in request.shapes.items()},
        "seed": request.seed,
        "archive": archive,
        "vocabularies": vocabularies(read_structure(model)),
        "execution": request.execution_on(provider, engine).as_dict(),
        "tuned": None if request.tuned is None else vars(request.tuned),
    }


def ask(module: str, question: Mapping[str, Any], model: Path, timeout_s: float) -> dict[str, Any]:
    """The child's answer; what it refuses names the model as the caller did.

    Raises:
        ModelError: if the model does not load, crashes, hangs, or does not take the inputs.
        ProviderError: if the provider does not load.
    """
    try:
        return ask_child(module, question, str(model), timeout_s=timeout_s)
    except ProviderError as error:
        raise ProviderError(str(error).replace(question["model"], str(model))) from None
    except ModelError as error:
        text = str(error).replace(question["model"], str(model))
        raise ModelError(text if str(model) in text else f"{model}: {text}") from None
