"""From a recipe to a report. The only place that knows the order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import __version__, machine
from edgekit.files import sha256_of
from edgekit.graph.read import size_bytes
from edgekit.pipeline import base
from edgekit.pipeline.generation import measure_writing
from edgekit.pipeline.latency import measure_latency, rows_of
from edgekit.pipeline.pack import pack_run
from edgekit.pipeline.pictures import PicturePlan, compared_in_pictures, gather_pictures, has_pictures, picture_files
from edgekit.pipeline.quality import drops_of, evaluate_links, evaluate_model, measure_baseline
from edgekit.pipeline.results import ModelResult, Report, choose_best
from edgekit.pipeline.robust import RobustPlan, measure_robustness, stages_of
from edgekit.pipeline.variants import compress
from edgekit.pipeline.workspace import Workspace
from edgekit.recipe import BASE, Recipe
from edgekit.recipe.floor import shortfalls
from edgekit.training.processes import held

Steps = dict[str, list[dict[str, Any]]]


def run_recipe(recipe: Recipe, out: Path) -> Report:
    """Train, export, compress, evaluate, measure, report and pack, reusing every step that is still valid.

    Args:
        recipe: What to do.
        out: Directory of everything that comes of it; held for this process while it works.

    Raises:
        EdgekitError: as the steps raise it; finished steps stay and are reused by the next run.
    """
    with held(out, recipe.train):
        work = Workspace(recipe, out)
        report = _run_steps(work)
        _write(work, report)
        bundle = pack_run(work, report)
        return replace(report, steps=tuple(work.store.finished), bundle=str(bundle) if bundle else None)


def _run_steps(work: Workspace) -> Report:
    recipe = work.recipe
    trained = base.train(work)
    exported = base.export(work)
    steps: Steps = {BASE: [exported], **{name: compress(work, name) for name in recipe.variants}}
    quality = {name: evaluate_model(work, name) for name in steps}
    steps = {name: evaluate_links(work, name, done) for name, done in steps.items()}
    robust = _robust(work, steps)
    measured = measure_latency(work, list(steps))
    writing = measure_writing(work, list(steps))
    results = (_model_result(work, name, steps[name], quality[name], measured) for name in steps)
    models = tuple(replace(model, generation=writing.get(model.name)) for model in results)
    best = choose_best(models, recipe.accept)
    return Report(
        name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        metric=work.metric.name,
        training=trained,
        export=exported,
        models=models,
        best=best.name if best else None,
        accepted=_accepted(recipe, best),
        bench={k: v for k, v in measured.items() if k not in ("rows", "speedups")},
        pictures=_pictures(work, models, best),
        machine=machine.facts(),
        robust=robust,
        baseline=measure_baseline(work),
    )


def _write(work: Workspace, report: Report) -> None:
    from edgekit.report import write_report

    content = report.as_dict()

    def files() -> list[Path]:
        return [*(work.out / f for f in ("results.json", "report.md", "report.html")), *picture_files(work.out)]

    def make() -> dict[str, Any]:
        write_report(content, work.out)
        return {}

    work.store.run("report", [content, __version__], files, make, "writing the report")


def _robust(work: Workspace, steps: Steps) -> dict[str, Any] | None:
    """The metric under attack, after every step; None where the recipe asks for none."""
    recipe = work.recipe
    if recipe.robust is None:
        return None
    builder = recipe.model.code() if recipe.model else None
    stages = stages_of(steps, lambda name, index: work.stage(name, index, len(steps[name])))
    plan = RobustPlan(recipe.robust, work.checkpoint, stages, work.metric, work.fingerprint, work.scratch, builder)
    return measure_robustness(plan, work.store, lambda: work.data.splits["test"])


def _pictures(work: Workspace, models: tuple[ModelResult, ...], best: ModelResult | None) -> dict[str, Any]:
    """What the pictures are drawn from, where the recipe wants any and the task has some."""
    if not (work.recipe.report.pictures and has_pictures(work.task)) or work.streams:
        return {}
    compared = compared_in_pictures(models, best)
    files = {m.name: work.model(m.name) for m in models}
    plan = PicturePlan(work.out, files, compared, work.task, work.fingerprint)
    return gather_pictures(plan, work.store, lambda: work.data)


def _model_result(
    work: Workspace, name: str, steps: list[dict[str, Any]], quality: dict[str, Any], measured: dict[str, Any]
) -> ModelResult:
    path = work.model(name)
    return ModelResult(
        name=name,
        path=str(path.relative_to(work.out)),
        sha256=sha256_of(path),
        size_bytes=size_bytes(path),
        size_ratio=size_bytes(work.model(BASE)) / size_bytes(path),
        metric=quality,
        drop=drops_of(work, name),
        bench=rows_of(measured, name),
        steps=steps,
    )


def _accepted(recipe: Recipe, best: ModelResult | None) -> bool | None:
    """Whether the chosen variant keeps the floors on test data; None where the recipe asks for none."""
    if recipe.accept is None:
        return None
    return best is not None and not shortfalls(vars(best), recipe.accept.model_dump(), "test")
