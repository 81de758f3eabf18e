"""The variants of a run: each step of each, from the base on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.compress import TECHNIQUES, OnnxStep, StepConfig, name_of
from edgekit.files import sha256_of
from edgekit.pipeline.workspace import Workspace, versions


def compress(work: Workspace, variant: str) -> list[dict[str, Any]]:
    """Apply a variant's steps in their order; what each did."""
    model, done = work.model(), []
    configs = work.recipe.variants[variant]
    for index, config in enumerate(configs):
        out = work.stage(variant, index, len(configs))
        done.append(_apply(work, f"{variant}.{index}", config, model, out))
        model = out
    return done


def _apply(work: Workspace, name: str, config: StepConfig, model: Path, out: Path) -> dict[str, Any]:
    method = TECHNIQUES[name_of(config)]

    def make() -> dict[str, Any]:
        step = OnnxStep(
            model=model,
            out=out,
            calibration=work.data.splits["calibration"],
            target=work.recipe.target,
            work=work.scratch,
            evaluation=work.data.splits["validation"],
            metric=work.metric,
            threads=work.recipe.bench.threads,
        )
        result = method.apply(config, step)
        return {
            "technique": method.name,
            "config": config.model_dump(mode="json"),
            "changed": result.changed,
            "reason": result.reason,
            "excluded_nodes": [vars(n) for n in result.excluded_nodes],
            "details": result.details,
        }

    inputs = [sha256_of(model), config.model_dump(mode="json"), work.recipe.target, work.fingerprint]
    inputs.append(versions("onnxruntime", "onnxruntime-gpu", "onnx", "edgekit"))
    doing = f"{method.name} for {name.rsplit('.', 1)[0]}"
    return work.store.run(name, inputs, [out], make, doing).result
