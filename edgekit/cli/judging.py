"""What a file is judged by, before it is compressed and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Metric = Annotated[str | None, typer.Option(help="Metric on --eval; top1 by default, for text that of the task.")]


def judged_by(model: Path, data: str | None, metric: str | None) -> dict[str, Any]:
    """What --eval and --metric name, as fields of a request: `evaluation` to choose by, `test`, and `metric`."""
    if not data:
        return {}
    from edgekit.data import SOURCES, is_text
    from edgekit.generate.files import split_for, usual_metric
    from edgekit.tasks import find_metric

    cut = data in SOURCES or is_text(data)  # an .npz has no split that nothing is chosen on
    return {
        "evaluation": split_for(model, data, "validation"),
        "test": split_for(model, data, "test") if cut else None,
        "metric": find_metric(metric or usual_metric(model, data)),
    }
