"""A benchmark as one self-contained page: nothing is fetched when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.files import write_text
from edgekit.report.bench_plots import Plot, plots
from edgekit.report.benchmark import Findings, every_note, sheets
from edgekit.report.figures import machine_lines


def bench_html(findings: Findings) -> str:
    """The page: tables, distributions, drift, scaling, where the time went, and the facts of the machine."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("edgekit.report"), autoescape=True, undefined=StrictUndefined)
    report = findings.report
    return environment.get_template("bench.html.j2").render(
        sheets=sheets(findings),
        plots=[_shown(number, plot) for number, plot in enumerate(plots(report))],
        facts=machine_lines(report.machine),
        notes=every_note(findings),
        command=findings.command,
        complete=report.complete,
        version=__version__,
    )


def write_html(path: Path, findings: Findings) -> None:
    """Write the page."""
    write_text(path, bench_html(findings))


def _shown(number: int, plot: Plot) -> dict[str, Any]:
    """A figure as a div; the first brings plotly.js along."""
    config = {"displayModeBar": False, "responsive": True}
    div = plot.figure.to_html(
        full_html=False, include_plotlyjs=number == 0, div_id=f"plot-{number}", config=config, default_width="100%"
    )
    return {"title": plot.title, "text": plot.text, "div": str(div)}
