from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from edgekit.report import markdown, terminal_table, verdict, write_report
from edgekit.report.comparison import COLUMNS, comparison_lines
from edgekit.report.figures import human_bytes, percent_or_value
from edgekit.report.html import html


def model(name: str, size: int, value: float, p50: float, ratio: float) -> dict[str, Any]:
    """One model as results.json has it, against a base of 1000 bytes, 0.98 and 1 ms."""
    quality = {"name": "top1", "value": value, "ci95": [value - 0.01, value + 0.01], "n": 360, "unit": ""}
    drop = {"value": 0.98 - value, "ci95": [0.97 - value, 0.99 - value], "n": 360}
    row = {
        "provider": "cpu",
        "batch": 1,
        "threads": 2,
        "n": 500,
        "providers_used": ["CPUExecutionProvider"],
        "latency_ms": {"p50": p50},
        "speedup": {"ratio": ratio, "ci95": [ratio - 0.1, ratio + 0.1], "rounds": 30},
    }
    return {
        "name": name,
        "path": f"models/{name}.onnx",
        "size_bytes": size,
        "size_ratio": 1000 / size,
        "metric": {"test": quality, "validation": quality},
        "drop": {"test": drop, "validation": drop},
        "bench": [row],
        "steps": [{"changed": True, "reason": "done"}],
    }


def facts_of(models: list[dict[str, Any]]) -> dict[str, Any]:
    """A report as results.json has it."""
    facts = {
        "cpu": "some CPU",
        "cores": 2,
        "cpu_features": ["AVX2"],
        "python": "3.11",
        "versions": {"onnxruntime": "1"},
    }
    return {
        "edgekit": "0.1.0",
        "name": "tiny",
        "metric": "top1",
        "best": "int8",
        "accepted": True,
        "recipe": {"family": "cnn", "size": "pico", "data": "digits", "target": "cpu", "accept": {"max_drop": 0.01}},
        "export": {
            "exporter": "dynamo",
            "opset": 18,
            "parity": {"max_abs": 1e-6, "max_rel": 1e-7, "batches": [1, 2, 7]},
        },
        "models": models,
        "bench": {"notes": ["the machine was <busy>"]},
        "machine": facts,
    }


@pytest.fixture
def report() -> dict[str, Any]:
    return facts_of(
        [
            model("base", 1000, 0.98, 1.0, 1.0),
            model("int8", 250, 0.975, 0.5, 2.0),
            model("bad", 200, 0.5, 0.4, 2.5),
        ]
    )


def test_the_table_has_the_figures(report: dict[str, Any]) -> None:
    base, int8, bad = comparison_lines(report)
    assert base.is_base
    assert int8.best
    assert dict(zip(COLUMNS, int8.cells, strict=True)) == {
        "model": "int8",
        "on": "cpu, batch 1",
        "metric (test)": "97.50 % [96.5, 98.5]",
        "drop": "+0.50 [-0.5, 1.5]",
        "size": "250 B",
        "smaller": "4.00x",
        "p50 latency": "0.500 ms",
        "faster": "2.00x [1.90, 2.10]",
        "notes": "best",
    }
    assert bad.cells[-1] == "misses the floor of 1.00 points"
    assert terminal_table(report).row_count == 3


def test_the_verdict_says_what_to_take(report: dict[str, Any]) -> None:
    assert verdict(report).startswith("Take int8 (models/int8.onnx): 4.00x smaller, 2.00x as fast, 0.50 points worse")
    report["models"][1]["drop"]["test"]["value"] = -0.001
    assert "2.00x as fast, 0.10 points better on test data" in verdict(report)
    report["models"][1]["drop"]["test"]["value"] = 0.0
    assert "2.00x as fast, as good on test data" in verdict(report)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"best": None}, "No variant keeps the accuracy floor on validation data; the base model stays the answer."),
        (
            {"best": "base"},
            "No variant is faster than the base and keeps its accuracy; the base model stays the answer.",
        ),
        ({"accepted": False}, "that misses the floor"),
    ],
)
def test_the_verdict_says_what_cannot_be_had(report: dict[str, Any], change: dict[str, Any], said: str) -> None:
    assert said in verdict({**report, **change})


def test_markdown_is_one_table_and_how_it_was_measured(report: dict[str, Any]) -> None:
    text = markdown(report)
    assert text.startswith("# tiny\n")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert {row.count("|") for row in rows} == {len(COLUMNS) + 1}
    assert "- note: the machine was <busy>" in text


def test_html_is_one_page_that_fetches_nothing_and_escapes_what_it_shows(report: dict[str, Any]) -> None:
    page = html(report)
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", markup)
    assert "<script src" not in page
    assert "the machine was &lt;busy&gt;" in page
    assert page == html(copy.deepcopy(report))


def test_a_report_is_three_files(report: dict[str, Any], tmp_path: Any) -> None:
    write_report(report, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.md", "results.json"]


def test_numbers_for_people() -> None:
    assert [human_bytes(n) for n in (999, 1000, 2_500_000, 3e9)] == ["999 B", "1.0 kB", "2.5 MB", "3.0 GB"]
    assert percent_or_value(0.5, "") == "50.00 %"
    assert percent_or_value(0.012345, "m", signed=True) == "+0.01235 m"


def test_why_a_step_changed_nothing_stands_below_the_table() -> None:
    models = [model("base", 1000, 0.98, 1.0, 1.0), model("int8", 1000, 0.98, 1.0, 1.0)]
    models[1]["steps"] = [{"technique": "quantize: static", "changed": False, "reason": "no Conv can run in int8"}]
    report = facts_of(models)
    why = "int8: quantize: static changed nothing: no Conv can run in int8"
    assert comparison_lines(report)[1].cells[-1] == "best; unchanged"
    assert f"- {why}" in markdown(report)
    assert f"<li>{why}</li>" in html(report)
    assert why in str(terminal_table(report).caption)
