"""How fast the models of a run are, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit import machine
from edgekit.bench import BenchRequest, bench_models, speedup
from edgekit.data import named_for
from edgekit.files import sha256_of, write_json
from edgekit.pipeline.workspace import Workspace
from edgekit.recipe import BASE
from edgekit.specs import Array


def measure_latency(work: Workspace, names: Sequence[str]) -> dict[str, Any]:
    """Measure all models in turns: the rows, each one's speed-up over the base, and notes."""
    config = work.recipe.bench
    models = {name: work.model(name) for name in names}
    samples = work.scratch / "latency_samples.json"

    def make() -> dict[str, Any]:
        request = BenchRequest(
            providers=tuple(config.providers),
            batches=tuple(config.batch),
            threads=config.threads,
            min_seconds=config.min_seconds,
            feeds=_feeds(work, max(config.batch)),
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

    asked = config.model_dump(exclude={"generate"})
    inputs = [{n: sha256_of(p) for n, p in models.items()}, asked, machine.facts(), work.fingerprint]
    return work.store.run("bench", inputs, [samples], make, "measuring latency").result


def _feeds(work: Workspace, count: int) -> dict[str, Array]:
    """The first test samples, with an empty memory where the models take one."""
    from edgekit.ort import Session

    inputs = Session(work.model()).inputs
    return dict(named_for(work.fed("test").take(count), inputs).matched(inputs).arrays)


def rows_of(measured: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The rows of one model, each with its speed-up."""
    pairs = zip(measured["rows"], measured["speedups"], strict=True)
    return [{**row, "speedup": gain} for row, gain in pairs if row["model"] == name]
