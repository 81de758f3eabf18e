from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bench import Verdict, changes_since, compare_rows, read_report
from edgekit.bench.energy import Energy
from edgekit.report.benchmark import Findings, every_note, sheets
from edgekit.report.figures import figure, machine_lines, short_names
from tests.bench_rows import MACHINE, report, row, samples


def _cells(findings: Findings, title: str) -> list[dict[str, str]]:
    sheet = next(s for s in sheets(findings) if s.title.startswith(title))
    return [dict(zip(sheet.columns, line.cells, strict=True)) for line in sheet.lines]


def test_the_latency_sheet_has_the_figures() -> None:
    (cells,) = _cells(Findings(report([row(ms=2.0, batch=4)])), "steady latency on some <CPU>, 2 threads")
    assert (cells["model"], cells["on"], cells["batch"], cells["runs"]) == ("a.onnx", "cpu", "4", "600")
    value, _, interval = cells["p50 ms [95 %]"].partition(" ")
    low, high = (float(bound) for bound in interval.strip("[]").split(", "))
    assert 1.98 < low <= float(value) <= high < 2.02
    assert float(cells["per s"]) == pytest.approx(2000, rel=0.01)
    assert float(cells["p99 ms"]) < 2.03


def test_energy_has_a_column_where_it_was_measured_and_a_reason_where_not() -> None:
    measured = Findings(report([row(energy=Energy(0.0215, "RAPL package-0", 40, 1.0))]))
    assert _cells(measured, "steady")[0]["mJ a run"] == "21.50"
    lacking = sheets(Findings(report([row(energy=Energy(None, "not measurable here: no counter"))])))[0]
    assert "mJ a run" not in lacking.columns
    assert lacking.caption.endswith("; energy: not measurable here: no counter")


def test_what_too_few_runs_cannot_tell_is_not_told() -> None:
    (cells,) = _cells(Findings(report([row(taken=samples(1.0, rounds=2, runs=3))])), "steady")
    assert cells["p50 ms [95 %]"].endswith(" [n/a]")
    assert (cells["p90 ms"], cells["p95 ms"], cells["p99 ms"]) == ("n/a", "n/a", "n/a")


def test_the_cold_sheet_has_the_figures() -> None:
    (cells,) = _cells(Findings(report([row()])), "cold start")
    assert cells == {
        "model": "a.onnx",
        "ran on": "cpu 100 %",
        "batch": "1",
        "session ms": "12.35",
        "first run ms": "3.210",
        "memory loaded": "60.0 MB",
        "peak memory": "70.0 MB",
        "size": "1.2 kB",
    }


def test_copies_between_devices_are_told() -> None:
    copied = replace(row(), cold=replace(row().cold, memcpy_nodes=2))
    assert _cells(Findings(report([copied])), "cold")[0]["ran on"] == "cpu 100 %, 2 copies"


def test_the_slowest_operators_are_shown_when_asked_for() -> None:
    assert not [s for s in sheets(Findings(report([row()]))) if s.title == "slowest operators"]
    (cells,) = _cells(Findings(report([row()]), top=1), "slowest operators")
    assert cells == {
        "model": "a.onnx",
        "operator": "MatMul",
        "on": "cpu",
        "batch": "1",
        "nodes": "2",
        "of the time": "75.0 %",
    }


def test_comparisons_have_a_verdict_each_and_its_colour() -> None:
    found = report([row("a.onnx", 2.0), row("b.onnx", 1.0), row("c.onnx", 4.0), row("d.onnx", 2.0)])
    findings = Findings(found, comparisons=compare_rows(found))
    assert [c["verdict"] for c in _cells(findings, "against a.onnx")] == ["FASTER", "SLOWER", "NO DIFFERENCE"]
    assert _cells(findings, "against")[0]["speed-up [95 %]"] == "2.00x [2.00, 2.00]"
    assert [line.mark for line in sheets(findings)[1].lines] == ["good", "bad", ""]
    assert [c["verdict"] for c in findings.as_dict()["comparisons"]] == [
        Verdict.FASTER,
        Verdict.SLOWER,
        Verdict.NO_DIFFERENCE,
    ]


def test_without_rows_there_is_nothing_to_show() -> None:
    assert sheets(Findings(report([]))) == []


def test_notes_of_rows_say_which_row() -> None:
    noted = report([row("x/a.onnx", notes=("it drifted",)), row("y/a.onnx")], notes=("cpu: busy",))
    assert every_note(Findings(noted)) == ["cpu: busy", "x/a.onnx on cpu, batch 1: it drifted"]


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["/r/a/m.onnx", "/r/b/m.onnx"], ["a/m.onnx", "b/m.onnx"]),
        (["m.onnx", "b/m.onnx"], ["m.onnx", "b/m.onnx"]),
        (["/long/way/m.onnx", "/long/way/m.onnx"], ["m.onnx", "m.onnx"]),
    ],
)
def test_names_are_as_short_as_they_can_be(models: list[str], names: list[str]) -> None:
    assert [short_names(models)[m] for m in models] == names


def test_figures_have_four_digits_and_no_exponent() -> None:
    assert [figure(v) for v in (0.0, 1e-7, 0.5, 123456.7, 9.99999)] == [
        "0.000",
        "0.0000001000",
        "0.5000",
        "123457",
        "10.000",
    ]


def test_facts_of_the_machine_are_lines_and_what_is_not_known_is_left_out() -> None:
    assert dict(machine_lines(MACHINE)) == {
        "cpu": "some <CPU>",
        "cores": "2",
        "cpu features": "AVX2, AVX512F",
        "memory": "8.0 GB",
        "versions": "onnxruntime 1.31.1, edgekit 0.1.0",
    }


def test_changes_since_an_old_report_are_a_sheet_and_notes(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(report([row("a.onnx", 1.0), row("gone.onnx")]).as_dict()))
    now = report([row("a.onnx", 2.0), row("new.onnx")], machine={**MACHINE, "cores": 4})
    findings = Findings(now, changes=changes_since(read_report(tmp_path / "old.json"), now))
    (cells,) = _cells(findings, "since old.json")
    assert (cells["then ms"], cells["now ms"]) == ("1.001", "2.002")
    assert (cells["speed-up [95 %]"][:5], cells["verdict"]) == ("0.500", "SLOWER")
    notes = [note.replace(str(tmp_path), "") for note in every_note(findings)]
    assert notes == [
        "/old.json was measured elsewhere or otherwise: cores was 2, is 4",
        "only in /old.json: gone.onnx on cpu, batch 1",
        "not in /old.json: new.onnx on cpu, batch 1",
    ]
    assert findings.as_dict()["against"]["regressions"] == 1
