from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench import BenchReport, Verdict, changes_since, read_report
from edgekit.bench.against import ratio_interval, ratio_of_intervals
from edgekit.bench.kept import KeptReport
from edgekit.errors import DataError
from tests.bench_rows import MACHINE, report, row, samples


def _kept(found: BenchReport, path: Path, *, with_samples: bool = True) -> KeptReport:
    path.write_text(json.dumps(found.as_dict(samples=with_samples)))
    return read_report(path)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tmp_path / "old.json"


@pytest.mark.parametrize("with_samples", [True, False])
@pytest.mark.parametrize(
    ("after_ms", "expected"),
    [(2.4, Verdict.SLOWER), (2.06, Verdict.NO_DIFFERENCE), (1.5, Verdict.FASTER)],
)
def test_a_row_has_a_verdict_from_samples_or_from_intervals(
    old: Path, with_samples: bool, after_ms: float, expected: Verdict
) -> None:
    kept = _kept(report([row(ms=2.0)]), old, with_samples=with_samples)
    (change,) = changes_since(kept, report([row(taken=samples(after_ms, seed=1))])).rows
    assert change.verdict is expected
    assert change.speedup.ratio == pytest.approx(2.0 / after_ms, rel=0.01)
    assert change.speedup.ci95 is not None
    low, high = change.speedup.ci95
    assert low <= change.speedup.ratio <= high < low * 1.05


def test_the_tolerance_is_how_much_slower_is_no_regression(old: Path) -> None:
    kept = _kept(report([row(ms=2.0)]), old)
    slower = report([row(taken=samples(2.2, seed=1))])
    assert len(changes_since(kept, slower).regressions) == 1
    assert changes_since(kept, slower, tolerance=0.2).regressions == ()


def test_without_rounds_and_intervals_nothing_can_be_said(old: Path) -> None:
    few = row(taken=samples(2.0, rounds=2, runs=3))
    (change,) = changes_since(_kept(report([few]), old), report([row(ms=9.0)])).rows
    assert (change.speedup.ci95, change.verdict) == (None, Verdict.TOO_NOISY)


def test_rows_are_matched_by_path_then_by_name(old: Path) -> None:
    kept = _kept(report([row("x/a.onnx", 1.0), row("y/a.onnx", 3.0), row("z/b.onnx", 5.0)]), old)
    found = changes_since(kept, report([row("y/a.onnx", 3.0), row("b.onnx", 5.0), row("c.onnx", 7.0)]))
    assert [(r.model, round(r.before_ms)) for r in found.rows] == [("y/a.onnx", 3), ("b.onnx", 5)]
    assert found.missing == ("x/a.onnx on cpu, batch 1",)
    assert found.new == ("c.onnx on cpu, batch 1",)


def test_a_name_that_two_models_have_matches_neither(old: Path) -> None:
    kept = _kept(report([row("x/a.onnx"), row("y/a.onnx")]), old)
    found = changes_since(kept, report([row("a.onnx")]))
    assert (found.rows, len(found.missing), len(found.new)) == ((), 2, 1)


def test_the_same_model_twice_is_matched_in_order(old: Path) -> None:
    kept = _kept(report([row(ms=1.0), row(ms=2.0)]), old)
    assert [round(r.before_ms) for r in changes_since(kept, report([row(), row()])).rows] == [1, 2]


@pytest.mark.parametrize("change", [{"threads": 1}, {"streams": 4}, {"provider": "cuda"}])
def test_another_setting_is_another_row(old: Path, change: dict[str, Any]) -> None:
    kept = _kept(report([row()]), old)
    found = changes_since(kept, report([row(**change)]))
    assert (found.rows, len(found.missing), len(found.new)) == ((), 1, 1)


def test_other_threads_are_told(old: Path) -> None:
    found = changes_since(_kept(report([row()]), old), report([row(threads=8)]))
    assert (found.missing, found.new) == (
        ("a.onnx on cpu, batch 1, 2 threads",),
        ("a.onnx on cpu, batch 1, 8 threads",),
    )


def test_other_inputs_are_another_row_and_are_told(old: Path) -> None:
    kept = _kept(report([row()]), old)
    longer = replace(row(), cold=replace(row().cold, inputs={"x": "float32 1x32"}))
    found = changes_since(kept, report([longer]))
    assert found.missing == ("a.onnx on cpu, batch 1 with x float32 1x16",)
    assert found.new == ("a.onnx on cpu, batch 1 with x float32 1x32",)


def test_what_differs_between_machines_is_told(old: Path) -> None:
    kept = _kept(report([row()]), old)
    assert changes_since(kept, report([row()])).differences == ()
    versions = {"onnxruntime": "1.32.0", "edgekit": "0.1.0", "numpy": "9"}
    other = report([row()], machine={**MACHINE, "cores": 8, "memory_bytes": 1, "versions": versions})
    assert changes_since(kept, other).differences == (
        "cores was 2, is 8",
        "onnxruntime was 1.31.1, is 1.32.0",
    )


def test_a_report_that_was_stopped_is_told(old: Path) -> None:
    kept = _kept(report([row()], complete=False), old)
    assert changes_since(kept, report([row()])).differences == ("it was stopped before it was complete",)


def test_json_has_all_of_it(old: Path) -> None:
    kept = _kept(report([row(ms=1.0), row("b.onnx")]), old)
    document = json.loads(json.dumps(changes_since(kept, report([row(ms=2.0)])).as_dict()))
    assert document["report"] == str(old)
    assert document["regressions"] == 1
    assert document["rows"][0]["verdict"] == "SLOWER"
    assert document["missing"] == ["b.onnx on cpu, batch 1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON; make one with --samples FILE.json"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is no report of edgekit bench; make one"),
        ('{"name": "other"}', "is no report of edgekit bench"),
        ('{"schema_version": 99, "rows": []}', "has schema version 99, and this edgekit reads 1; measure it again"),
        ('{"schema_version": 1, "rows": [], "machine": {}}', "is a broken report: rows: List should have at least 1"),
        ('{"schema_version": 1, "rows": [{}], "machine": {}}', "is a broken report: rows.0.model: Field required"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(old: Path, content: str, said: str) -> None:
    old.write_text(content)
    with pytest.raises(DataError) as error:
        read_report(old)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_reports_with_impossible_values_are_refused(old: Path) -> None:
    document = report([row()]).as_dict(samples=True)
    broken = document["rows"][0]
    for change, said in (
        ({"samples_ms": [1.0]}, "1 samples of a.onnx belong to 600 rounds"),
        ({"samples_ms": [-1.0]}, "samples_ms.0: Input should be greater than 0"),
        ({"latency_ms": {"p50": float("nan"), "ci95_p50": None}}, "latency_ms.p50: Input should be"),
    ):
        old.write_text(json.dumps({**document, "rows": [{**broken, **change}]}))
        with pytest.raises(DataError, match="is a broken report") as error:
            read_report(old)
        assert said in str(error.value)


def test_a_report_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report .*no\.json is not there; make one with"):
        read_report(tmp_path / "no.json")


def test_the_interval_of_unpaired_rounds_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    for seed in range(100):
        before, after = rng.lognormal(0, 0.05, 120), rng.lognormal(0.1, 0.05, 90)
        low, high = ratio_interval(before, after, seed)
        held += low <= np.exp(-0.1) <= high
    assert held >= 85


def test_both_ways_to_an_interval_agree() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(2.0, 0.05, 200), rng.normal(1.0, 0.02, 200)
    drawn = ratio_interval(before, after)
    width = 1.96 * 1.2533 / np.sqrt(200)
    told = ratio_of_intervals(2.0, (2 - 0.05 * width, 2 + 0.05 * width), 1.0, (1 - 0.02 * width, 1 + 0.02 * width))
    assert drawn == pytest.approx(told, rel=0.01)
