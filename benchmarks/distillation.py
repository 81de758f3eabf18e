"""Is a teacher worth its time? The same student alone and distilled, by the same schedule, over several seeds.

    python benchmarks/distillation.py --out runs/distillation
    python benchmarks/distillation.py --recipe fashion-resnet-student --variant student --seeds 0 1 2 --out DIR

The base of the recipe is trained once, or taken from --base. Every training goes on where it was cut off, and what is
finished is not done again. The figures are of the test split: the metric's mean and standard deviation over the seeds,
and the mean of the differences seed by seed with its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.compress.distill.config import BASE, DistillConfig
from edgekit.compress.distill.open import open_teachers
from edgekit.compress.distill.run import Distilling, schedule
from edgekit.compress.distill.student import student_of
from edgekit.errors import EdgekitError, RecipeError
from edgekit.evaluate import evaluate
from edgekit.files import locked, write_json, write_text
from edgekit.machine import facts
from edgekit.pipeline import base
from edgekit.pipeline.workspace import Workspace
from edgekit.progress import note
from edgekit.recipe import find_recipe, load_recipe
from edgekit.training.checkpoint import TrainedModel, load_checkpoint
from edgekit.training.config import TrainConfig
from edgekit.training.fit import fit

# 97.5 % points of Student's t, by degrees of freedom.
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Figures:
    """The metric of one way to train, seed by seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; 0 for one seed."""
        if len(self.values) < 2:
            return 0.0
        return math.sqrt(sum((v - self.mean) ** 2 for v in self.values) / (len(self.values) - 1))

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of the mean; infinite for one seed."""
        count = len(self.values)
        return T_975.get(count - 1, 2.0) * self.spread / math.sqrt(count) if count > 1 else math.inf


@dataclass(frozen=True)
class Comparison:
    """A student alone and distilled.

    Attributes:
        work: The recipe's directory, base and data.
        config: The step that distils.
        out: Directory of both trainings of every seed.
    """

    work: Workspace
    config: DistillConfig
    out: Path

    def run(self, seed: int) -> tuple[float, float]:
        """The metric on test data (alone, distilled) of one seed."""
        config = self.config.model_copy(update={"train": _seeded(self.config.train, seed)})
        trained = load_checkpoint(self.work.checkpoint)
        student = student_of(config, trained, self.work.data)
        train = self.work.recipe.train
        place = self.out / f"seed-{seed}"
        alone = fit(
            student.card,
            lambda: student.data,
            schedule(config, train),
            place / "alone",
            fingerprint=self.work.fingerprint,
            start=student.start,
            metric=self.work.metric,
        )
        teacher = open_teachers(config.teachers, self.work.data, lambda: trained)
        taught = Distilling(
            config, student, teacher, train, place / "distilled", self.out, self.work.fingerprint, self.work.metric
        ).run()
        return self.judge(alone), self.judge(taught)

    def judge(self, model: TrainedModel) -> float:
        """The metric on test data."""
        return evaluate(model, self.work.data.splits["test"], self.work.metric).value


def _seeded(train: TrainConfig, seed: int) -> TrainConfig:
    """The same with another seed, which then counts as said."""
    return TrainConfig(**{**{n: getattr(train, n) for n in train.model_fields_set}, "seed": seed})


def main() -> None:
    """Train what is missing, and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="fashion-resnet-student", help="a name or a file")
    parser.add_argument("--variant", default="student", help="whose first step distils")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--base", type=Path, help="directory of a run of the recipe, to take its base from")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="change a key of the recipe")
    asked = parser.parse_args()
    try:
        print(compare(asked.recipe, asked.variant, asked.seeds, asked.out, asked.base, asked.settings))
    except EdgekitError as error:
        raise SystemExit(f"error: {error}") from None


def compare(
    recipe: str, variant: str, seeds: list[int], out: Path, base_of: Path | None = None, settings: Any = ()
) -> str:
    """The comparison as a table; comparison.json and comparison.md in `out` hold it too."""
    loaded = load_recipe(find_recipe(Path(recipe)), settings)
    steps = loaded.variants.get(variant, [])
    if not steps or not isinstance(steps[0], DistillConfig) or BASE not in steps[0].teachers:
        raise RecipeError(f"variant {variant!r} of {loaded.name} does not begin with a distillation of the base")
    with locked(out):
        work = Workspace(loaded, base_of or out)
        base.train(work)
        comparison = Comparison(work, steps[0], out)
        rows = []
        for seed in seeds:
            note(f"seed {seed}", style="bold")
            rows.append(comparison.run(seed))
        of_base = comparison.judge(load_checkpoint(work.checkpoint))
        text = table(loaded.name, work.metric.name, of_base, seeds, rows)
        told = {"recipe": loaded.model_dump(mode="json"), "base": of_base, "seeds": seeds, "rows": rows}
        write_json(out / "comparison.json", {**told, "machine": facts()})
        write_text(out / "comparison.md", text)
    return text


def table(recipe: str, metric: str, of_base: float, seeds: list[int], rows: list[tuple[float, float]]) -> str:
    """Markdown: a row a seed, then mean and spread, then the difference."""
    alone, taught = (Figures(tuple(row[i] for row in rows)) for i in (0, 1))
    gain = Figures(tuple(b - a for a, b in rows))
    lines = [f"{recipe}: {metric} on test data; base {of_base:.4f}", "", "| seed | alone | distilled | difference |"]
    lines += ["|---|---|---|---|"]
    lines += [f"| {s} | {a:.4f} | {b:.4f} | {b - a:+.4f} |" for s, (a, b) in zip(seeds, rows, strict=True)]
    lines += [f"| mean | {alone.mean:.4f} | {taught.mean:.4f} | {gain.mean:+.4f} ± {gain.half_width:.4f} |"]
    lines += [f"| spread | {alone.spread:.4f} | {taught.spread:.4f} | {gain.spread:.4f} |"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
