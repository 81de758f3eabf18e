"""What a benchmark's figures look like: distributions, drift, scaling, and where the time went."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from edgekit.bench import BenchReport, BenchRow
from edgekit.report.benchmark import cold_rows, share, short_provider
from edgekit.report.figures import short_names
from edgekit.specs import Array

# Told apart by dashes too, for those who do not see the colours; light enough for a dark page, dark enough for a white.
_COLOURS = ("#3b82f6", "#d97706", "#8b5cf6", "#db2777", "#0891b2", "#65a30d", "#dc2626", "#78716c")
_DASHES = ("solid", "dash", "dot", "dashdot")
_BINS = 60
_MOST_POINTS = 200
_TAIL = 99.5
_FAR_APART = 5.0
_OPERATORS = 6


@dataclass(frozen=True)
class Plot:
    """A figure of Plotly with what has to be said about it."""

    title: str
    text: str
    figure: Any


def plots(report: BenchReport) -> Iterator[Plot]:
    """Every figure that these rows can fill."""
    labels = short_names(row.model for row in report.rows)
    for setting in dict.fromkeys(row.setting for row in report.rows):
        rows = [row for row in report.rows if row.setting == setting]
        yield Plot(f"latency on {setting}", _SPREAD_TEXT, _spread(rows, labels))
    for axis in ("batch", "streams"):
        if len({getattr(row.setting, axis) for row in report.rows}) > 1:
            yield Plot(f"throughput and latency over {axis}", _SCALING_TEXT, _scaling(report.rows, labels, axis))
    cold = cold_rows(report)
    yield Plot("where the time went", _WHERE_TEXT, _where(cold, labels))


_SPREAD_TEXT = (
    f"Left: share of the runs by latency, without the slowest {100 - _TAIL:.1f} %. Right: the median of each round "
    "with its 10th to 90th percentile; a line that leans is drift."
)
_SCALING_TEXT = "Bars: 95 % intervals."
_WHERE_TEXT = "Share of the time of all nodes, from ONNX Runtime's profile in the process of the cold start."


def _spread(rows: Sequence[BenchRow], labels: dict[str, str]) -> Any:
    from plotly.subplots import make_subplots

    figure = make_subplots(cols=2, subplot_titles=("distribution", "over the rounds"), horizontal_spacing=0.1)
    medians = [row.latency_ms.p50 for row in rows]
    edges = _edges([row.samples.ms for row in rows])
    for number, row in enumerate(rows):
        name, style = _wrapped(labels[row.model]), _style(number)
        figure.add_trace(_histogram(row, edges, name, style), row=1, col=1)
        for trace in _rounds(row, name, style):
            figure.add_trace(trace, row=1, col=2)
    figure.update_xaxes(title_text="latency (ms)", **_axis(edges[0], edges[-1]), col=1)
    figure.update_xaxes(title_text="round", col=2)
    figure.update_yaxes(title_text="runs (%)", rangemode="tozero", col=1)
    figure.update_yaxes(title_text="latency (ms)", **_axis(min(medians), max(medians)), col=2)
    return _laid_out(figure, 380)


def _edges(values: Sequence[Array]) -> Array:
    """Edges of bins that hold all but the slowest runs: float64 (bins + 1,), even on the axis that is drawn."""
    low = min(float(v.min()) for v in values)
    high = max(low * 1.01, *(float(np.percentile(v, _TAIL)) for v in values))
    spaced = np.geomspace if high / low > _FAR_APART else np.linspace
    return np.asarray(spaced(low, high, _BINS + 1))


def _axis(low: float, high: float) -> dict[str, Any]:
    """An axis over these values; a logarithmic one says each of its steps in full, where Plotly writes 2 for 0.2."""
    if high / low <= _FAR_APART:
        return {"type": "linear"}
    steps = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
    ]
    return {"type": "log", "tickvals": steps, "ticktext": [f"{step:.12g}" for step in steps]}


def _histogram(row: BenchRow, edges: Array, name: str, style: dict[str, Any]) -> Any:
    import plotly.graph_objects as go

    counts, _ = np.histogram(row.samples.ms, edges)
    shares = 100 * counts / row.samples.n
    return go.Scatter(
        x=_rounded(edges),
        y=_rounded(np.append(shares, 0.0)),
        mode="lines",
        line={"color": style["color"], "shape": "hv", "width": 1.5},
        fill="tozeroy",
        fillcolor=_faint(style["color"]),
        name=name,
        legendgroup=style["color"] + style["dash"],
        hovertemplate="%{x:.4g} ms: %{y:.1f} %",
    )


def _rounds(row: BenchRow, name: str, style: dict[str, Any]) -> Iterator[Any]:
    """A band and a line over groups of neighbouring rounds, as many as can be seen."""
    import plotly.graph_objects as go

    numbers = np.unique(row.samples.rounds)
    groups = np.array_split(numbers, min(len(numbers), _MOST_POINTS))
    parts = [row.samples.ms[np.isin(row.samples.rounds, group)] for group in groups]
    low, middle, high = (_rounded(np.array([np.percentile(p, q) for p in parts])) for q in (10, 50, 90))
    x = [float(group.mean()) for group in groups]
    shared = {"legendgroup": style["color"] + style["dash"], "showlegend": False, "name": name}
    yield go.Scatter(
        x=x + x[::-1],
        y=high + low[::-1],
        mode="lines",
        fill="toself",
        fillcolor=_faint(style["color"]),
        line={"width": 0},
        hoverinfo="skip",
        **shared,
    )
    yield go.Scatter(
        x=x,
        y=middle,
        mode="lines" if len(x) > 1 else "markers",
        line={**style, "width": 1.5},
        hovertemplate="%{y:.4g} ms",
        **shared,
    )


def _scaling(rows: Sequence[BenchRow], labels: dict[str, str], axis: str) -> Any:
    from plotly.subplots import make_subplots

    titles = ("samples per second", "median latency (ms)")
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.1)
    for number, (name, line) in enumerate(_lines(rows, labels, axis).items()):
        figure.add_trace(_scaling_trace(line, axis, name, _style(number), throughput=True), row=1, col=1)
        figure.add_trace(_scaling_trace(line, axis, name, _style(number), throughput=False), row=1, col=2)
    steps = sorted({getattr(row.setting, axis) for row in rows})
    figure.update_xaxes(title_text=axis, type="log", tickvals=steps, ticktext=[str(s) for s in steps])
    figure.update_yaxes(rangemode="tozero")
    return _laid_out(figure, 420)


def _lines(rows: Sequence[BenchRow], labels: dict[str, str], axis: str) -> dict[str, list[BenchRow]]:
    """Rows that differ in one thing alone, by a name that says what else they are."""
    other = "streams" if axis == "batch" else "batch"
    several = len({getattr(row.setting, other) for row in rows}) > 1
    found: dict[str, list[BenchRow]] = {}
    for row in sorted(rows, key=lambda row: int(getattr(row.setting, axis))):
        beside = f", {other} {getattr(row.setting, other)}" if several else ""
        found.setdefault(_wrapped(f"{labels[row.model]} on {row.provider}{beside}"), []).append(row)
    return found


def _scaling_trace(line: Sequence[BenchRow], axis: str, name: str, style: dict[str, Any], *, throughput: bool) -> Any:
    import plotly.graph_objects as go

    values = [row.throughput_per_s if throughput else row.latency_ms.p50 for row in line]
    bounds = [row.throughput_ci95 if throughput else row.latency_ms.ci95_p50 for row in line]
    ends = [b or (v, v) for b, v in zip(bounds, values, strict=True)]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, b[1] - v) for b, v in zip(ends, values, strict=True)],
        "arrayminus": [max(0.0, v - b[0]) for b, v in zip(ends, values, strict=True)],
        "thickness": 1,
    }
    return go.Scatter(
        x=[getattr(row.setting, axis) for row in line],
        y=values,
        error_y=error,
        mode="lines+markers",
        line={**style, "width": 2},
        name=name,
        legendgroup=name,
        showlegend=throughput,
        hovertemplate="%{x}: %{y:.4g}",
    )


def _where(rows: Sequence[BenchRow], labels: dict[str, str]) -> Any:
    import plotly.graph_objects as go

    names = [f"{_wrapped(labels[row.model])}<br>batch {row.batch}, on {row.provider}" for row in rows]
    figure = go.Figure()
    for number, (operator, shares) in enumerate(operator_shares(rows).items()):
        figure.add_trace(
            go.Bar(
                y=list(range(len(rows))),
                x=[100 * s for s in shares],
                name=escape(operator),
                orientation="h",
                marker={
                    "color": _COLOURS[number % len(_COLOURS)],
                    "line": {"width": 1, "color": "rgba(128,128,128,.5)"},
                },
                text=[f"{escape(operator)} {share(s)}" if s > 0.08 else "" for s in shares],
                textposition="inside",
                insidetextanchor="middle",
                textfont={"color": "white"},
                hovertemplate=f"{escape(operator)}: %{{x:.1f}} %<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", uniformtext={"minsize": 9, "mode": "hide"})
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, autorange="reversed", automargin=True)
    figure.update_xaxes(title_text="share of the time (%)", range=[0, 100])
    return _laid_out(figure, 150 + 60 * len(rows))


def operator_shares(rows: Sequence[BenchRow]) -> dict[str, list[float]]:
    """Shares of the time, 0 to 1, one a row, by operator and provider; what is small everywhere is taken together."""
    shares: dict[str, list[float]] = {}
    for number, row in enumerate(rows):
        for found in row.cold.operators:
            name = f"{found.op_type} on {short_provider(found.provider)}"
            shares.setdefault(name, [0.0] * len(rows))[number] += found.time_share
    largest = sorted(shares, key=lambda name: -max(shares[name]))[:_OPERATORS]
    kept = {name: shares[name] for name in largest}
    rest = [sum(shares[name][i] for name in shares if name not in kept) for i in range(len(rows))]
    return {**kept, "others": rest} if len(shares) > len(kept) else kept


def _laid_out(figure: Any, height: int) -> Any:
    grid = "rgba(128,128,128,.25)"
    figure.update_layout(
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "itemsizing": "constant"},
        margin={"l": 60, "r": 20, "t": 40, "b": 90},
        hovermode="closest",
    )
    figure.update_xaxes(gridcolor=grid, zerolinecolor=grid)
    figure.update_yaxes(gridcolor=grid, zerolinecolor=grid)
    return figure


def _style(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "dash": _DASHES[number % len(_DASHES)],
    }


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},.15)"


def _rounded(values: Array) -> list[float]:
    """Six digits are more than anybody sees, and keep the page small."""
    return [float(f"{v:.6g}") for v in values]


def _wrapped(name: str) -> str:
    """A name as Plotly shows it: its own markup escaped, lines not too long."""
    return "<br>".join(escape(part) for part in textwrap.wrap(name, 40, break_on_hyphens=True)) or "?"
