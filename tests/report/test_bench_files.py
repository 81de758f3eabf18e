from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.bench import compare_rows
from edgekit.report.bench_files import bench_csv, bench_markdown, write_samples, write_trace
from edgekit.report.benchmark import Findings
from tests.bench_rows import report, row, samples


def test_csv_has_a_line_a_row_with_the_figures_of_json() -> None:
    rows = [row("a,b.onnx", 2.0), row("b.onnx", taken=samples(1.0, rounds=2, runs=3))]
    first, second = csv.DictReader(io.StringIO(bench_csv(Findings(report(rows)))))
    assert first["model"] == "a,b.onnx"
    assert float(first["latency_ms.p50"]) == rows[0].latency_ms.p50
    assert rows[0].latency_ms.ci95_p50 is not None
    assert float(first["latency_ms.ci95_p50.low"]) == rows[0].latency_ms.ci95_p50[0]
    assert float(first["throughput_ci95.low"]) < float(first["throughput_per_s"]) < float(first["throughput_ci95.high"])
    assert first["placement.CPUExecutionProvider.nodes"] == "3"
    assert first["machine.versions.onnxruntime"] == "1.31.1"
    assert second["latency_ms.ci95_p50.low"] == second["latency_ms.p99"] == second["machine.gpu"] == ""
    assert "operators" not in first


def test_markdown_has_the_tables_the_command_and_once_the_machine() -> None:
    found = report([row("a.onnx", 2.0), row("b.onnx", 1.0)], notes=("it was busy",), complete=False)
    text = bench_markdown(
        Findings(found, comparisons=compare_rows(found), command="edgekit bench a.onnx b.onnx --compare")
    )
    assert "```sh\nedgekit bench a.onnx b.onnx --compare\n```" in text
    assert "| b.onnx | cpu | 1 | 2.00x [2.00, 2.00] | FASTER | 20 |" in text
    assert text.count("cpu: some <CPU>") == 1
    assert "- note: it was busy" in text
    assert "- stopped by the user" in text


def test_samples_come_back_from_json(tmp_path: Path) -> None:
    found = report([row(), row("b.onnx")])
    write_samples(tmp_path / "s.json", Findings(found, command="edgekit bench a.onnx b.onnx"))
    document = json.loads((tmp_path / "s.json").read_text())
    assert (document["schema_version"], document["command"]) == (1, "edgekit bench a.onnx b.onnx")
    for held, given in zip(document["rows"], found.rows, strict=True):
        np.testing.assert_array_equal(held["samples_ms"], given.samples.ms)
        np.testing.assert_array_equal(held["samples_round"], given.samples.rounds)


def test_samples_come_back_from_npz(tmp_path: Path) -> None:
    found = report([row(), row("b.onnx", 5.0)])
    write_samples(tmp_path / "s.npz", Findings(found))
    with np.load(tmp_path / "s.npz", allow_pickle=False) as held:
        np.testing.assert_array_equal(held["ms_1"], found.rows[1].samples.ms)
        np.testing.assert_array_equal(held["rounds_1"], found.rows[1].samples.rounds)
        assert json.loads(str(held["report"]))["rows"][1]["model"] == "b.onnx"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.npz"]


def test_traces_become_one_with_a_process_a_row(tmp_path: Path) -> None:
    event = {"cat": "Node", "name": "matmul0_kernel_time", "pid": 77, "tid": 5, "ts": 1, "dur": 2, "ph": "X"}
    rows = [replace(r, cold=replace(r.cold, trace=(event,))) for r in (row("a.onnx"), row("b.onnx"))]
    write_trace(tmp_path / "t.json", Findings(report(rows)))
    events = json.loads((tmp_path / "t.json").read_text())
    titles = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert titles == {0: "a.onnx on cpu, batch 1", 1: "b.onnx on cpu, batch 1"}
    assert [e for e in events if e["ph"] == "X"] == [{**event, "pid": 0}, {**event, "pid": 1}]
