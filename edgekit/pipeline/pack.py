"""The bundle that a run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.pipeline.results import Report
from edgekit.pipeline.workspace import Workspace, versions
from edgekit.progress import warn
from edgekit.runtime.archive import SIGNATURE


def pack_run(work: Workspace, report: Report) -> Path | None:
    """Pack what the recipe asks for, from the report that has just been written.

    Args:
        work: Of the run.
        report: What it found.

    Returns:
        The bundle; None where none is asked for, or no variant is good enough to be the best.

    Raises:
        EdgekitError: as packing raises it.
    """
    config = work.recipe.pack
    if config is None:
        return None
    if config.variant == "best" and report.best is None:
        warn("no bundle: no variant keeps the recipe's floors, so none is the best")
        return None
    out = work.out / "bundle"

    def make() -> dict[str, Any]:
        from edgekit.bundle import PackOptions, pack_bundle
        from edgekit.pipeline.finished import models_of_run

        told = PackOptions("", config.version, config.license, config.description, samples=config.samples)
        candidates, options = models_of_run(work.out, config.variant, told)
        return pack_bundle(candidates, out, options).as_dict()

    def files() -> list[Path]:
        packed = sorted(p for p in out.rglob("*") if p.is_file())
        return [p for p in packed if p.name != SIGNATURE] or [out]  # one that was signed since is still the same

    models = [[m.name, m.sha256, m.metric, m.bench] for m in report.models]
    inputs = [models, report.best, config.model_dump(), __version__, versions("onnxruntime", "onnxruntime-gpu")]
    work.store.run("pack", inputs, files, make, f"packing {out.name}")
    return out
