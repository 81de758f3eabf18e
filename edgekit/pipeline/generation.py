"""How fast the language models of a run write, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit import machine
from edgekit.data.split import is_memory
from edgekit.files import sha256_of
from edgekit.pipeline.workspace import Workspace, versions
from edgekit.recipe import BASE
from edgekit.specs import TEXT_INPUTS

_TASK = "language-modelling"
_PROMPT = 32  # tokens


def measure_writing(work: Workspace, names: Sequence[str]) -> dict[str, Any]:
    """Name -> how fast the model writes, how many times as fast as the base; {} for models that remember nothing."""
    if work.task.name != _TASK:
        return {}
    config = work.recipe.bench

    def make() -> dict[str, Any]:
        from edgekit.generate import measure_generation
        from edgekit.ort import Session

        base = Session(work.model(), threads=config.threads)
        if not any(is_memory(spec) for spec in base.inputs):
            return {}
        others = {n: Session(work.model(n), threads=config.threads) for n in names if n != BASE}
        found = measure_generation(
            {BASE: base, **others}, _prompt(work), tokens=config.generate, min_seconds=config.min_seconds
        )
        first = found[BASE].tokens_per_second
        return {name: {**f.as_dict(), "ratio": f.tokens_per_second / first} for name, f in found.items()}

    hashes = {name: sha256_of(work.model(name)) for name in names}
    inputs: list[Any] = [hashes, config.model_dump(include={"generate", "threads", "min_seconds"}), machine.facts()]
    inputs += [work.fingerprint, versions("edgekit")]
    return work.store.run("generation", inputs, [], make, "measuring generation").result


def _prompt(work: Workspace) -> list[int]:
    """The beginning of the first validation text, at most half of it."""
    arrays = work.data.splits["validation"].arrays
    ids = next(arrays[name] for name in TEXT_INPUTS["ids"] if name in arrays)[0]
    return [int(i) for i in ids[: max(1, min(_PROMPT, len(ids) // 2))]]
