from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench import compare_rows
from edgekit.bench.records import OperatorTime
from edgekit.report.bench_html import bench_html, write_html
from edgekit.report.bench_plots import _axis, operator_shares, plots
from edgekit.report.benchmark import Findings
from tests.bench_rows import report, row

ROWS = [row("a.onnx", 2.0), row("<b>.onnx", 1.0), row("a.onnx", 6.0, batch=8), row("<b>.onnx", 3.0, batch=8)]


@pytest.fixture(scope="module")
def page() -> str:
    found = report(ROWS, notes=("it was <busy>",))
    return bench_html(Findings(found, comparisons=compare_rows(found), command="edgekit bench '<b>.onnx'", top=3))


def test_the_page_fetches_nothing(page: str) -> None:
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", markup)
    assert "<script src" not in page
    assert page.count("Plotly.newPlot(") >= 4


def test_the_page_escapes_what_it_shows(page: str) -> None:
    assert "it was &lt;busy&gt;" in page
    assert "&lt;b&gt;.onnx" in page
    assert "<b>.onnx" not in page
    assert "some &lt;CPU&gt;" in page


def test_the_page_has_the_tables(page: str) -> None:
    for title in ("steady latency on", "against a.onnx", "cold start", "slowest operators", "how it was measured"):
        assert f"<h2>{title}" in page
    assert '<tr class="good"><td class="name">&lt;b&gt;.onnx</td>' in page


def test_figures_are_those_that_the_rows_can_fill() -> None:
    titles = [plot.title for plot in plots(report(ROWS))]
    assert titles == [
        "latency on cpu, batch 1",
        "latency on cpu, batch 8",
        "throughput and latency over batch",
        "where the time went",
    ]
    assert [plot.title for plot in plots(report(ROWS[:1]))] == ["latency on cpu, batch 1", "where the time went"]
    streams = [replace(row(), streams=1), replace(row(), streams=1, threads=1)]
    assert not [plot for plot in plots(report(streams)) if "streams" in plot.title]


def test_the_histogram_holds_all_runs_but_the_slowest() -> None:
    spread = next(plots(report(ROWS[:2]))).figure
    for trace in [t for t in spread.data if t.fill == "tozeroy"]:
        assert 99.0 <= sum(trace.y) <= 100.0
        assert len(trace.x) == len(trace.y) == 61


def test_the_rounds_lie_within_their_band() -> None:
    _, band, line = next(plots(report(ROWS[:1]))).figure.data
    assert len(line.x) == 20
    low, high = np.array(band.y[len(line.x) :])[::-1], np.array(band.y[: len(line.x)])
    assert (low <= np.array(line.y)).all()
    assert (np.array(line.y) <= high).all()


def test_throughput_over_batches_is_that_of_the_rows() -> None:
    scaling = next(plot for plot in plots(report(ROWS)) if plot.title.startswith("throughput")).figure
    first = scaling.data[0]
    assert tuple(first.x) == (1, 8)
    assert tuple(first.y) == (ROWS[0].throughput_per_s, ROWS[2].throughput_per_s)


def test_operators_that_take_little_are_taken_together() -> None:
    operators = tuple(OperatorTime(f"Op{i}", "CPUExecutionProvider", 1, 0.1) for i in range(10))
    many = replace(row(), cold=replace(row().cold, operators=operators))
    shares = operator_shares([many, row()])
    assert list(shares)[:2] == ["MatMul on cpu", "Relu on cpu"]
    assert shares["others"] == [pytest.approx(0.6), 0.0]
    assert [sum(s[i] for s in shares.values()) for i in (0, 1)] == [pytest.approx(1.0)] * 2


def test_the_page_is_the_same_each_time(page: str, tmp_path: Path) -> None:
    write_html(tmp_path / "p.html", Findings(report(ROWS[:1])))
    assert (tmp_path / "p.html").read_text() == bench_html(Findings(report(ROWS[:1])))


def test_a_logarithmic_axis_says_its_steps_in_full() -> None:
    axis = _axis(0.06, 0.4)
    assert axis["type"] == "log"
    assert axis["ticktext"][:6] == ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]
    assert axis["tickvals"][3] == 0.1
    assert _axis(0.1, 0.4) == {"type": "linear"}
