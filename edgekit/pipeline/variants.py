"""The variants of a run: each step of each, from the base on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.compress import TECHNIQUES, OnnxStep, StepConfig, StepResult, name_of
from edgekit.errors import CompressError
from edgekit.files import sha256_of
from edgekit.judge import prepare_judge
from edgekit.load import fingerprint, recognise
from edgekit.pipeline.base import export_link
from edgekit.pipeline.torch_step import TorchWork
from edgekit.pipeline.workspace import Workspace, versions
from edgekit.training.checkpoint import CONFIG, WEIGHTS, read_config


def compress(work: Workspace, variant: str) -> list[dict[str, Any]]:
    """Apply a variant's steps in their order; what each did. Each leaves an ONNX file, also one of stage "torch"."""
    place, model, done = work.checkpoint, work.model(), []
    configs = work.recipe.variants[variant]
    for index, config in enumerate(configs):
        name, out = f"{variant}.{index}", work.stage(variant, index, len(configs))
        if TECHNIQUES[name_of(config)].stage == "torch":
            first = _first_alike(work, variant, index)
            link = work.link(first, index)
            done.append(_train(work, f"{first}.{index}", config, place, link))
            export_link(work, name, link, out)
            place = link
        else:
            done.append(_apply(work, name, config, model, out))
        model = out
    return done


def _first_alike(work: Workspace, variant: str, index: int) -> str:
    """The first variant that begins with the same steps up to this one: what it trained is trained once."""
    steps = work.recipe.variants[variant][: index + 1]
    return next(name for name, others in work.recipe.variants.items() if others[: index + 1] == steps)


def _train(work: Workspace, name: str, config: StepConfig, place: Path, out: Path) -> dict[str, Any]:
    """A step that works on the torch model; an interrupted one goes on from what lies in its directory."""
    method, recipe = TECHNIQUES[name_of(config)], work.recipe
    if not (place / WEIGHTS).is_file():
        raise CompressError(
            f"`{method.name}` needs a torch model that edgekit can train, and {recipe.subject} is exported as it is; "
            "use steps that work on the file (`edgekit list techniques`)"
        )

    def make() -> dict[str, Any]:
        prepare_judge(work.metric, work.source.name)
        prepared = TorchWork(
            checkpoint=place,
            base=work.checkpoint,
            out=out,
            load_data=lambda: work.data,
            fingerprint=work.fingerprint,
            metric=work.metric,
            train=recipe.train,
            work=out.parent,
            threads=recipe.bench.threads,
            builder=recipe.model.code() if recipe.model else None,
            target=recipe.target,
            opset=recipe.export.opset,
        )
        result = method.apply(config, prepared.step())
        told = {k: v for k, v in read_config(out).items() if k in ("validation", "history")}
        return {**_record(config, result), **told}

    inputs = [
        sha256_of(place / WEIGHTS),
        sha256_of(work.checkpoint / WEIGHTS),
        name_of(config),
        config.model_dump(mode="json", exclude_defaults=True),
        recipe.train.as_key(),
        [recipe.target, recipe.export.opset],
        work.fingerprint,
        versions("torch", "lightning", "torch-pruning"),
        *(fingerprint(recognise(path)) for path in config.reads if Path(path).exists()),
    ]
    return work.store.run(name, inputs, [out / WEIGHTS, out / CONFIG], make, _doing(config, name)).result


def _apply(work: Workspace, name: str, config: StepConfig, model: Path, out: Path) -> dict[str, Any]:
    """A step that works on the ONNX file."""
    method = TECHNIQUES[name_of(config)]

    def make() -> dict[str, Any]:
        judged_on = work.fed("validation")
        step = OnnxStep(
            model=model,
            out=out,
            calibration=work.fed("calibration"),
            target=work.recipe.target,
            work=work.scratch,
            evaluation=None if work.metric.needs_labels and judged_on.labels is None else judged_on,
            metric=work.metric,
            threads=work.recipe.bench.threads,
        )
        return _record(config, method.apply(config, step))

    inputs = [sha256_of(model), config.model_dump(mode="json"), work.recipe.target, work.fingerprint]
    inputs.append(versions("onnxruntime", "onnxruntime-gpu", "onnx", "edgekit"))
    return work.store.run(name, inputs, [out], make, _doing(config, name)).result


def _record(config: StepConfig, result: StepResult) -> dict[str, Any]:
    """A step as results.json holds it."""
    return {
        "technique": name_of(config),
        "config": config.model_dump(mode="json"),
        "changed": result.changed,
        "reason": result.reason,
        "excluded_nodes": [vars(n) for n in result.excluded_nodes],
        "details": result.details,
    }


def _doing(config: StepConfig, name: str) -> str:
    return f"{name_of(config)} for {name.rsplit('.', 1)[0]}"
