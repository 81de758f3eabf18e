"""The report as one self-contained page: nothing is fetched when it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.chain import COLUMNS as CHAIN_COLUMNS
from edgekit.report.chain import TITLE as CHAIN_TITLE
from edgekit.report.chain import chain_lines, chain_notes
from edgekit.report.comparison import COLUMNS, comparison_lines, setting_of
from edgekit.report.further import further_lines
from edgekit.report.pictures.colours import style_of
from edgekit.report.pictures.section import Section
from edgekit.report.robustness import CAUTION, robust_lines, robust_title
from edgekit.report.robustness import COLUMNS as ROBUST_COLUMNS
from edgekit.report.text import method_lines, model_of, verdict

_INK, _GRID = "#1f2937", "#e5e7eb"


def html(report: Mapping[str, Any], sections: Sequence[Section] = ()) -> str:
    """The page: verdict, plots of accuracy against size and latency, the table, pictures, and how it was measured."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("edgekit.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.j2").render(
        report=report,
        verdict=verdict(report),
        model=model_of(report),
        columns=COLUMNS,
        lines=comparison_lines(report),
        further=[line.removeprefix("- ") for line in further_lines(report)],
        plot=_plot(report),
        sections=sections,
        chain=chain_lines(report),
        chain_columns=CHAIN_COLUMNS,
        chain_title=CHAIN_TITLE,
        chain_notes=chain_notes(report),
        robust=robust_lines(report),
        robust_columns=ROBUST_COLUMNS,
        robust_title=robust_title(report) if report.get("robust") else "",
        caution=CAUTION,
        method=[line.removeprefix("- ") for line in method_lines(report)],
    )


def _plot(report: Mapping[str, Any]) -> str:
    """Accuracy against size and against latency, with intervals, as a div with plotly.js inside."""
    from plotly.subplots import make_subplots

    first = report["models"][0]["bench"][0]
    figure = make_subplots(
        cols=2,
        subplot_titles=("accuracy against size", f"accuracy against latency ({setting_of(first)})"),
        horizontal_spacing=0.1,
    )
    for index, model in enumerate(report["models"]):
        for column, x in ((1, model["size_bytes"] / 1e3), (2, model["bench"][0]["latency_ms"]["p50"])):
            figure.add_trace(_point(report, index, x, show=column == 1), row=1, col=column)
    unit = report["models"][0]["metric"]["test"]["unit"]
    figure.update_yaxes(title_text=f"{report['metric']} on test data{' (%)' if unit == '' else ''}", gridcolor=_GRID)
    figure.update_xaxes(gridcolor=_GRID, rangemode="tozero")
    figure.update_xaxes(title_text="size (kB)", col=1)
    figure.update_xaxes(title_text="median latency (ms)", col=2)
    figure.update_layout(
        height=460,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="white",
        font={"color": _INK, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": -0.2},
        margin={"l": 60, "r": 20, "t": 40, "b": 60},
    )
    return str(figure.to_html(full_html=False, include_plotlyjs=True, div_id="plot", config={"displayModeBar": False}))


def _point(report: Mapping[str, Any], index: int, x: float, *, show: bool) -> Any:
    import plotly.graph_objects as go

    model = report["models"][index]
    quality = model["metric"]["test"]
    scale = 100 if quality["unit"] == "" else 1
    y, (low, high) = scale * quality["value"], (scale * b for b in quality["ci95"])
    colour, symbol = style_of(report, model["name"])
    return go.Scatter(
        x=[x],
        y=[y],
        error_y={"type": "data", "symmetric": False, "array": [high - y], "arrayminus": [y - low], "thickness": 1},
        mode="markers",
        marker={"size": 13, "color": colour, "symbol": symbol},
        name=f"{model['name']} (best)" if model["name"] == report["best"] else model["name"],
        showlegend=show,
        hovertemplate=f"{model['name']}: %{{x:.4g}}, %{{y:.2f}}<extra></extra>",
    )
