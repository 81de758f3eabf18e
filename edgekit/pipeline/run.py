"""From a recipe to a report. The only place that knows the order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import __version__, machine
from edgekit.bench import BenchRequest, bench_models, speedup
from edgekit.compress import TECHNIQUES, OnnxStep, StepConfig, name_of
from edgekit.data import DataSet, DataSource, resolve_source
from edgekit.evaluate import drifts, paired_drop, scores_of
from edgekit.files import replacing, sha256_of, write_json
from edgekit.graph.read import size_bytes
from edgekit.judge import bind_judge, judge_key, prepare_judge
from edgekit.load import fingerprint
from edgekit.pipeline.floor import shortfalls
from edgekit.pipeline.loaded import data_for, export_base, load_base, task_name
from edgekit.pipeline.pictures import (
    PicturePlan,
    answers_file,
    compared_in_pictures,
    gather_pictures,
    has_pictures,
    picture_files,
    write_answers,
)
from edgekit.pipeline.results import BASE, ModelResult, Report, choose_best
from edgekit.pipeline.robust import RobustPlan, measure_robustness, stages_of
from edgekit.recipe import Recipe
from edgekit.specs import Array
from edgekit.steps import StepStore
from edgekit.tasks import METRICS, TASKS, Metric, Task, find_metric
from edgekit.tasks.classification import accuracy_by_class
from edgekit.tasks.metric import summarise
from edgekit.training.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from edgekit.training.fit import card_for, fit
from edgekit.training.processes import held
from edgekit.training.start import start_key

if TYPE_CHECKING:
    from edgekit.ort import Session

_TRAINING = ("validation", "train", "card", "history")
_SPLITS = ("validation", "test")


def run_recipe(recipe: Recipe, out: Path) -> Report:
    """Train, export, compress, evaluate, measure and report, reusing every step that is still valid.

    Args:
        recipe: What to do.
        out: Directory of everything that comes of it; held for this process while it works.

    Raises:
        EdgekitError: as the steps raise it; finished steps stay and are reused by the next run.
    """
    with held(out, recipe.train):
        return _Run(recipe, out).report()


@dataclass
class _Run:
    """One run of a recipe in a locked directory."""

    recipe: Recipe
    out: Path

    def __post_init__(self) -> None:
        self.store = StepStore(self.out)
        self.source: DataSource = resolve_source(self.recipe.data)
        self.fingerprint = self.source.fingerprint(None)

    @cached_property
    def data(self) -> DataSet:
        """The data as the model takes it; loaded only when a step has to run."""
        return data_for(self.recipe, self.source, self.task.name, self.out)

    @cached_property
    def task(self) -> Task:
        """What the model does with the data."""
        return TASKS[task_name(self.recipe, self.source)]

    @property
    def metric(self) -> Metric:
        """What decides."""
        return self._bound(self.task.metric)

    def _bound(self, name: str) -> Metric:
        """A metric that can be scored on this data."""
        return bind_judge(find_metric(name), self.source.name)

    def report(self) -> Report:
        """Run every step and write the report."""
        from edgekit.report import write_report

        trained = self._train()
        exported = self._export()
        steps = {BASE: [exported], **{name: self._variant(name) for name in self.recipe.variants}}
        quality = {name: self._evaluate(name) for name in steps}
        robust = self._robust(steps)
        measured = self._bench(list(steps))
        models = tuple(self._model_result(name, steps[name], quality[name], measured) for name in steps)
        best = choose_best(models, self.recipe.accept)
        report = Report(
            name=self.recipe.name,
            recipe=self.recipe.model_dump(mode="json"),
            metric=self.metric.name,
            training=trained,
            export=exported,
            models=models,
            best=best.name if best else None,
            accepted=self._accepted(best),
            bench={k: v for k, v in measured.items() if k not in ("rows", "speedups")},
            pictures=self._pictures(models, best),
            machine=machine.facts(),
            robust=robust,
            baseline=self._baseline(),
        )
        content = report.as_dict()

        def files() -> list[Path]:
            return [*(self.out / f for f in ("results.json", "report.md", "report.html")), *picture_files(self.out)]

        def make() -> dict[str, Any]:
            write_report(content, self.out)
            return {}

        self.store.run("report", [content, __version__], files, make, "writing the report")
        return report.with_steps(self.store.finished)

    def _train(self) -> dict[str, Any]:
        recipe, place = self.recipe, self.out / "checkpoint"
        if recipe.model:
            return self._load()

        def make() -> dict[str, Any]:
            card = card_for(recipe.family, recipe.size, self.data)
            prepare_judge(self.metric, self.source.name)
            fit(card, lambda: self.data, recipe.train, place, fingerprint=self.fingerprint, metric=self.metric)
            from edgekit.training.checkpoint import read_config

            return {k: v for k, v in read_config(place).items() if k in _TRAINING}

        inputs = [
            recipe.family,
            recipe.size,
            recipe.train.as_key(),
            start_key(recipe.train.init),
            self.fingerprint,
            _versions("torch", "lightning"),
        ]
        doing = f"training {recipe.family}/{recipe.size} on {self.source.name}"
        return self.store.run("train", inputs, [place / WEIGHTS, place / CONFIG], make, doing).result

    def _load(self) -> dict[str, Any]:
        """What is there before training, or in its place; an ONNX file is taken by the export."""
        recipe, place = self.recipe, self.out / "checkpoint"
        if recipe.model is None or recipe.model.onnx:
            return {"history": []}

        def make() -> dict[str, Any]:
            data = self.source.load(None, self.task.name)
            return {k: v for k, v in load_base(recipe, data, place, self.fingerprint).items() if k in _TRAINING}

        tuning = [recipe.train.as_key(), _versions("lightning")] if recipe.fine_tunes else []
        inputs = [fingerprint(recipe.model), self.fingerprint, *tuning, _versions("torch", "transformers", "edgekit")]
        doing = f"{'fine-tuning' if recipe.fine_tunes else 'loading'} {recipe.subject}"
        return self.store.run("train", inputs, [place / WEIGHTS, place / CONFIG], make, doing).result

    def _export(self) -> dict[str, Any]:
        place, out = self.out / "checkpoint", self._model(BASE)
        foreign = self.recipe.model.onnx if self.recipe.model else None

        def make() -> dict[str, Any]:
            return {**export_base(self.recipe, place, out), "path": str(out.relative_to(self.out))}

        weights = fingerprint(self.recipe.model) if foreign and self.recipe.model else sha256_of(place / WEIGHTS)
        inputs = [weights, self.recipe.export.model_dump(), _versions("torch", "onnx", "edgekit")]
        return self.store.run("export", inputs, [out], make, "exporting to ONNX").result

    def _variant(self, name: str) -> list[dict[str, Any]]:
        """Apply a variant's steps in their order."""
        model, done = self._model(BASE), []
        configs = self.recipe.variants[name]
        for index, config in enumerate(configs):
            last = index == len(configs) - 1
            out = self._model(name) if last else self._between(name, index)
            done.append(self._compress(f"{name}.{index}", config, model, out))
            model = out
        return done

    def _compress(self, name: str, config: StepConfig, model: Path, out: Path) -> dict[str, Any]:
        method = TECHNIQUES[name_of(config)]

        def make() -> dict[str, Any]:
            step = OnnxStep(
                model=model,
                out=out,
                calibration=self.data.splits["calibration"],
                target=self.recipe.target,
                work=self.out / "work",
                evaluation=self.data.splits["validation"],
                metric=self.metric,
                threads=self.recipe.bench.threads,
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

        inputs = [sha256_of(model), config.model_dump(mode="json"), self.recipe.target, self.fingerprint]
        versions = _versions("onnxruntime", "onnxruntime-gpu", "onnx", "edgekit")
        return self.store.run(
            name, [*inputs, versions], [out], make, f"{method.name} for {name.rsplit('.', 1)[0]}"
        ).result

    def _evaluate(self, name: str) -> dict[str, Any]:
        """The metric on validation data (to choose by) and test data (to report), with every sample's score."""
        model = self._model(name)
        files = {split: self.out / "work" / f"{name}.{split}.npy" for split in _SPLITS}
        answers = {"test": answers_file(self.out, name)} if self.task.by_class else {}

        def make() -> dict[str, Any]:
            from edgekit.ort import Session

            session, found = Session(model), {}
            metrics = [self.metric, *map(self._bound, self.task.also)]
            for split, file in files.items():
                values = scores_of(session, self.data.splits[split], metrics)
                with replacing(file) as temporary:
                    np.save(temporary, values[self.metric.name])
                if split in answers:
                    write_answers(answers[split], values)
                found[split] = summarise(self.metric, values[self.metric.name]).as_dict()
                found[split]["also"] = {m.name: summarise(m, values[m.name]).as_dict() for m in metrics[1:]}
                found[split] |= self._details(session, split, values[self.metric.name])
            return found

        inputs = [
            sha256_of(model),
            sha256_of(self._model(BASE)) if self.task.drift else "",
            self.fingerprint,
            self.metric.name,
            self.task.also,
            judge_key(self.source.name) if self.metric.needs_judge else "",
            _versions("onnxruntime", "onnxruntime-gpu", "edgekit"),
        ]
        return self.store.run(
            f"{name}.metric", inputs, [*files.values(), *answers.values()], make, f"evaluating {name}"
        ).result

    def _details(self, session: Session, split: str, values: Array) -> dict[str, Any]:
        """What a task tells beside its metrics: each class, and how far the outputs are from the base's."""
        from edgekit.ort import Session

        data = self.data.splits[split]
        found: dict[str, Any] = {}
        if self.task.by_class and data.labels is not None:
            found["by_class"] = accuracy_by_class(values, data.labels, self.data.classes)
        if self.task.drift:
            wanted = [find_metric(name) for name in (self.task.drift, *self.task.further_drift)]
            first, *further = drifts(Session(self._model(BASE)), session, data, wanted).values()
            found["drift"] = {**first.as_dict(), "also": {m.name: m.as_dict() for m in further}}
        return found

    def _robust(self, steps: dict[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
        """The metric under attack, after every step; None where the recipe asks for none."""
        if self.recipe.robust is None:
            return None

        def path(name: str, index: int) -> Path:
            return self._model(name) if index == len(steps[name]) - 1 else self._between(name, index)

        place, work = self.out / "checkpoint", self.out / "work"
        builder = self.recipe.model.code() if self.recipe.model else None
        stages = stages_of(steps, path)
        plan = RobustPlan(self.recipe.robust, place, stages, self.metric, self.fingerprint, work, builder)
        return measure_robustness(plan, self.store, lambda: self.data.splits["test"])

    def _baseline(self) -> dict[str, Any] | None:
        """What the base must beat; None where the task knows nothing."""
        if self.task.baseline is None:
            return None
        place = self.out / "checkpoint"

        def make() -> dict[str, Any]:
            from edgekit.ort import Session
            from edgekit.pipeline.baseline import components_of_the_same_width, untrained

            if self.task.baseline == "components":
                return components_of_the_same_width(Session(self._model(BASE)), self.data)
            return untrained(load_checkpoint(place).card, self.data, self.metric, self.recipe.train.seed)

        inputs = [sha256_of(self._model(BASE)), self.fingerprint, self.metric.name, judge_key(self.source.name)]
        return self.store.run("baseline", [*inputs, _versions("edgekit")], [], make, "measuring the baseline").result

    def _bench(self, names: list[str]) -> dict[str, Any]:
        """Measure all models in turns; the rows, and each one's speed-up over the base."""
        config = self.recipe.bench
        models = {name: self._model(name) for name in names}
        samples = self.out / "work" / "latency_samples.json"

        def make() -> dict[str, Any]:
            request = BenchRequest(
                providers=tuple(config.providers),
                batches=tuple(config.batch),
                threads=config.threads,
                min_seconds=config.min_seconds,
                feeds=dict(self.data.splits["test"].take(max(config.batch)).arrays),
            )
            report = bench_models(list(models.values()), request)
            names_of = {str(path): name for name, path in models.items()}
            base = {(r.provider, r.batch): r for r in report.rows if names_of[r.model] == BASE}
            gains = [speedup(base[r.provider, r.batch].samples, r.samples) for r in report.rows]
            rows = [{**r.as_dict(), "model": names_of[r.model]} for r in report.rows]
            write_json(samples, [r.samples.ms.tolist() for r in report.rows])
            return {
                "rows": rows,
                "speedups": [{"ratio": g.ratio, "ci95": g.ci95, "rounds": g.rounds} for g in gains],
                "notes": list(report.notes),
            }

        inputs = [{n: sha256_of(p) for n, p in models.items()}, config.model_dump(), machine.facts(), self.fingerprint]
        return self.store.run("bench", inputs, [samples], make, "measuring latency").result

    def _pictures(self, models: tuple[ModelResult, ...], best: ModelResult | None) -> dict[str, Any]:
        """What the pictures are drawn from, where the recipe wants any and the task has some."""
        if not (self.recipe.report.pictures and has_pictures(self.task)):
            return {}
        compared = compared_in_pictures(models, best)
        files = {m.name: self._model(m.name) for m in models}
        plan = PicturePlan(self.out, files, compared, self.task, self.fingerprint)
        return gather_pictures(plan, self.store, lambda: self.data)

    def _model_result(
        self, name: str, steps: list[dict[str, Any]], quality: dict[str, Any], measured: dict[str, Any]
    ) -> ModelResult:
        rows = [
            {**row, "speedup": gain}
            for row, gain in zip(measured["rows"], measured["speedups"], strict=True)
            if row["model"] == name
        ]
        path = self._model(name)
        drops = {split: self._drop(name, split) for split in _SPLITS}
        return ModelResult(
            name=name,
            path=str(path.relative_to(self.out)),
            sha256=sha256_of(path),
            size_bytes=size_bytes(path),
            size_ratio=size_bytes(self._model(BASE)) / size_bytes(path),
            metric=quality,
            drop=drops,
            bench=rows,
            steps=steps,
        )

    def _drop(self, name: str, split: str) -> dict[str, Any]:
        before, after = (np.load(self.out / "work" / f"{n}.{split}.npy") for n in (BASE, name))
        return paired_drop(METRICS[self.metric.name], before, after).as_dict()

    def _accepted(self, best: ModelResult | None) -> bool | None:
        """Whether the chosen variant keeps the floor on test data; None where the recipe asks for none."""
        floor = self.recipe.accept
        if floor is None:
            return None
        return best is not None and not shortfalls(vars(best), floor.model_dump(), "test")

    def _between(self, name: str, index: int) -> Path:
        """What a step that is not the variant's last writes."""
        return self.out / "work" / f"{name}.{index}.onnx"

    def _model(self, name: str) -> Path:
        return self.out / "models" / f"{name}.onnx"


def _versions(*packages: str) -> dict[str, str]:
    there = machine.package_versions()
    return {name: there[name] for name in packages if name in there}
