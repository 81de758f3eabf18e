"""How well the base and every step of every variant hold against adversarial examples of the float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data import Split, load_npz
from edgekit.evaluate import paired_drop, scores
from edgekit.files import replacing, sha256_of
from edgekit.load import Builder, open_checkpoint
from edgekit.pipeline.workspace import versions
from edgekit.recipe.model import BASE, RobustConfig
from edgekit.specs import Array
from edgekit.steps import StepStore
from edgekit.tasks import Metric
from edgekit.tasks.metric import summarise
from edgekit.training.checkpoint import WEIGHTS


@dataclass(frozen=True)
class Stage:
    """A file on the way to a variant.

    Attributes:
        model: "base", or the variant's name.
        step: What made the file, such as "quantize: static".
        path: The ONNX file.
    """

    model: str
    step: str
    path: Path


@dataclass(frozen=True)
class RobustPlan:
    """What is attacked, with what.

    Attributes:
        config: The attack.
        checkpoint: Directory of the float model, on which the examples are made.
        stages: Every file to judge, the base first.
        metric: How.
        fingerprint: Of the data.
        work: Directory for the examples.
        builder: The user's code that built the float model; None for others.
    """

    config: RobustConfig
    checkpoint: Path
    stages: Sequence[Stage]
    metric: Metric
    fingerprint: str
    work: Path
    builder: Builder | None = None

    @property
    def examples(self) -> Path:
        """Where the adversarial examples lie."""
        return self.work / "adversarial.npz"


def measure_robustness(plan: RobustPlan, store: StepStore, split: Callable[[], Split]) -> dict[str, Any]:
    """The metric of each stage on test samples, and on adversarial examples that were made of them.

    The examples are made once, on the float torch model that is fully known (white box); compressed models see the same
    ones, which makes theirs a transfer attack: one made on themselves might find more.

    Args:
        plan: What to do.
        store: Where finished steps are kept.
        split: Gives the test split; called only when something has to be measured.

    Returns:
        `attack`, `samples` and `stages`: a mapping a stage with `model`, `step`, `clean`, `attacked` and, of the
        attacked, the `drop` from the base.

    Raises:
        TrainingError: if the model is no classifier of images whose pixels are known.
    """
    config = plan.config
    made_of = [
        sha256_of(plan.checkpoint / WEIGHTS),
        config.model_dump(),
        plan.fingerprint,
        versions("torch", "edgekit"),
    ]
    store.run(
        "adversarial", made_of, [plan.examples], lambda: _make_examples(plan, split()), "attacking the float model"
    )
    judged_on = [
        sha256_of(plan.examples),
        [(s.model, s.step, sha256_of(s.path)) for s in plan.stages],
        plan.metric.name,
        versions("onnxruntime", "onnxruntime-gpu", "edgekit"),
    ]
    return store.run("robust", judged_on, [], lambda: _judge(plan, split()), "judging under attack").result


def stages_of(steps: Mapping[str, Sequence[Mapping[str, Any]]], path: Callable[[str, int], Path]) -> list[Stage]:
    """Each file of each model once, the base first.

    Args:
        steps: Model -> what each of its steps did, as results.json holds it.
        path: (model, number of the step) -> the file that the step wrote.
    """
    return [
        Stage(model, "export" if model == BASE else str(step["technique"]), path(model, index))
        for model, done in steps.items()
        for index, step in enumerate(done)
    ]


def _make_examples(plan: RobustPlan, split: Split) -> dict[str, Any]:
    from edgekit.training.attacks import attacked

    found = attacked(open_checkpoint(plan.checkpoint, plan.builder), split.take(plan.config.samples), plan.config)
    arrays: dict[str, Any] = {**found.arrays, "labels": found.labels}
    with replacing(plan.examples) as temporary:
        np.savez(temporary, **arrays)
    return {"samples": len(found)}


def _judge(plan: RobustPlan, split: Split) -> dict[str, Any]:
    clean, attacked = split.take(plan.config.samples), load_npz(plan.examples)
    found: list[dict[str, Any]] = []
    base: Array | None = None
    for stage in plan.stages:
        before, after = _scores(stage.path, clean, plan.metric), _scores(stage.path, attacked, plan.metric)
        base = after if base is None else base
        found.append(
            {
                "model": stage.model,
                "step": stage.step,
                "clean": summarise(plan.metric, before).as_dict(),
                "attacked": summarise(plan.metric, after).as_dict(),
                "drop": paired_drop(plan.metric, base, after).as_dict(),
            }
        )
    return {"attack": plan.config.model_dump(mode="json"), "samples": len(clean), "stages": found}


def _scores(model: Path, split: Split, metric: Metric) -> Array:
    from edgekit.ort import Session

    return scores(Session(model), split, metric)
