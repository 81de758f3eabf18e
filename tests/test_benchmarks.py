"""The benchmark of quantisers: its arithmetic against NumPy, its processes, and the runner on a tiny model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from tests.conftest import ROOT, dense

HOME = ROOT / "benchmarks" / "quantizers"
RUN = HOME / "run.py"


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's modules are scripts beside each other."""
    monkeypatch.syspath_prepend(str(HOME))


def module(name: str) -> ModuleType:
    return __import__(name)


def command(*args: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(RUN), *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A benchmark's directory in which T1 is a linear model of 20 kB with wide outputs."""
    folder = tmp_path / "tasks" / "T1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 80)).astype(np.float32)
    onnx.save(dense(weight), folder / "model.onnx")
    images = rng.standard_normal((48, 1, 8, 8)).astype(np.float32)
    y = (images.reshape(48, 64) @ weight).argmax(1)
    np.savez(folder / "calib.npz", image=images[:16])
    np.savez(folder / "val.npz", image=images[:32], labels=y[:32])
    np.savez(folder / "eval.npz", image=images[32:], y=y[32:])
    monkeypatch.setenv("EDGEKIT_BENCH", str(tmp_path))
    return tmp_path


def test_the_runner_measures_and_prints_a_table(place: Path) -> None:
    out = place / "results.jsonl"
    done = command(
        *("run", "--task", "T1", "--candidates", "fp32,edgekit", "--edgekit-options=--method dynamic"),
        *("--seconds", "0.05", "--out", out),
    )
    assert done.returncode == 0, done.stderr
    fp32, ours = (json.loads(line) for line in out.read_text().splitlines())
    assert "failed" not in ours, ours
    assert ours["method"] == "ok, dynamic"
    assert fp32["score"] == {"metric": 1.0, "agree": 1.0, "n": 16}
    assert fp32["size_bytes"] == ours["fp32_bytes"] == (place / "tasks/T1/model.onnx").stat().st_size
    assert 0 < ours["size_bytes"] <= fp32["size_bytes"]
    assert ours["latency"]["batch 1"]["pairs"] >= 200
    assert ours["quantize"]["seconds"] > 0
    assert ours["quantize"]["peak_rss_bytes"] > 10e6
    assert not ours["rewrote_input"]
    text = command("table", out).stdout
    assert "--candidates fp32,edgekit" in text
    assert "- environment edgekit: edgekit " in text
    assert f"| edgekit | {ours['score']['metric']:.4f} |" in text


def test_what_is_not_there_is_said_at_once(place: Path) -> None:
    for args, message in (
        (("run", "--task", "T2"), "run.py prepare T2"),
        (("run", "--task", "T1", "--candidates", "edgekitt"), "did you mean 'edgekit'"),
        (("run", "--task", "T1", "--cpu", "9999"), "--cpu 9999: this process may use"),
        (("prepare", "T9"), "unknown task or environment 'T9'"),
    ):
        done = command(*args, "--tasks", place / "tasks")
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert message in done.stderr


def test_results_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"task": "T1"}\n{"task": ')
    for path, message in ((tmp_path / "none.jsonl", "no results in"), (torn, "torn.jsonl:2: not JSON")):
        done = command("table", path)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert message in done.stderr


def test_a_candidate_without_its_environment_fails_in_its_row(place: Path) -> None:
    runner, process = module("run"), module("process")
    place_ = runner.Place(place, place / "tasks", place / "none")
    plan = runner.Plan(place_, process.Limits(None, 60.0), 0.05, (), False, "typed")
    row = runner.measure_candidate(plan, "T1", "nncf")
    assert row["failed"] == "not prepared: run.py prepare nncf"
    assert runner.chosen_candidates(place_, "T1", None) == ["fp32", "edgekit"]


def test_a_step_ends_at_its_limit_with_all_its_children(tmp_path: Path) -> None:
    process = module("process")
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    ended = process.run_step([sys.executable, "-c", code], tmp_path / "log", process.Limits(None, 1.0))
    assert ended.code is None
    assert ended.reason.startswith("timeout: ")
    assert 1 < ended.seconds < 20


def test_ctrl_c_ends_the_step_and_keeps_the_rows(place: Path) -> None:
    out = place / "rows.jsonl"
    words = ("run", "--task", "T1", "--candidates", "fp32,fp32,fp32", "--seconds", "0.05", "--out", str(out))
    runner = subprocess.Popen([sys.executable, str(RUN), *words], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (out.exists() and out.read_text().endswith("\n")) and time.monotonic() < until:
        time.sleep(0.02)
    runner.send_signal(signal.SIGTERM)
    _, said = runner.communicate(timeout=30)
    assert runner.returncode == 130, said
    assert "Traceback" not in said
    assert json.loads(out.read_text().splitlines()[0])["candidate"] == "fp32"


def test_memory_and_reason_of_a_failing_step(tmp_path: Path) -> None:
    """From a small process, as run.py is one: on Linux a child starts with its parent's peak."""
    code = "a = bytearray(200_000_000); raise ValueError('no such thing')"
    runner = f"""
import sys, pathlib
sys.path.insert(0, {str(ROOT / "benchmarks/quantizers")!r})
import process
step = [sys.executable, "-c", {code!r}]
ended = process.run_step(step, pathlib.Path({str(tmp_path / "log")!r}), process.Limits(process.default_cpu(), 60))
print(ended.reason, ended.peak_rss_bytes, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", runner], capture_output=True, text=True, timeout=60, check=True)
    reason, peak = done.stdout.splitlines()
    assert reason == "1: ValueError: no such thing"
    assert 200e6 < int(peak) < 400e6


def test_scores_are_those_of_numpy() -> None:
    tasks = module("tasks")
    outputs = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    original = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    found = tasks.score_classes(outputs, original, {"y": np.array([0, 1, 1, 0])})
    assert (found.metric, found.agree, found.n) == (0.75, 0.5, 4)

    clips = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.6, 0.8]])  # the first two enrol
    found = tasks.score_speakers(clips, clips, {"y": np.array([0, 1, 0, 0]), "enrol": np.array(2)})
    assert (found.metric, found.n) == (0.5, 2)
    assert found.agree == pytest.approx(1.0)


def test_perplexity_of_equal_chances_is_their_number() -> None:
    tasks = module("tasks")
    ids = np.array([[1, 2, 0, 1]])
    kept = tasks.next_tokens(np.zeros((1, 4, 3), np.float32), {"input_ids": ids})
    assert kept.shape == (3, 2)
    assert tasks.score_tokens(kept[None], kept[None], {}).metric == pytest.approx(3.0)


def test_samples_are_trimmed_and_timed_as_the_task_says() -> None:
    tasks = module("tasks")
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    data = {"input_ids": np.arange(6).reshape(2, 3), "attention_mask": mask, "y": np.array([0, 1])}
    first, second = tasks.TASKS["T2"].samples(data)
    assert set(first) == {"input_ids", "attention_mask"}
    assert first["input_ids"].tolist() == [[0, 1]]
    assert second["input_ids"].tolist() == [[3, 4, 5]]
    lengths = {name: select({"x": np.zeros((1, 256))})["x"].shape[1] for name, select in tasks.TASKS["T4"].timed}
    assert lengths == {"32 tokens": 32, "1 token": 1}


def test_the_ratio_of_medians_carries_its_interval() -> None:
    ms = np.random.default_rng(0).normal([2.0, 1.0], 0.1, (500, 2))
    found = module("measure").summarise(ms)
    assert found["ratio"] == pytest.approx(np.median(ms[:, 1]) / np.median(ms[:, 0]))
    assert found["ci95"][0] < found["ratio"] < found["ci95"][1]
    assert found["ci95"][1] - found["ci95"][0] < 0.05


def row(name: str, metric: float | None, **more: Any) -> dict[str, Any]:
    machine = {"cpu": "CPU", "cpu_features": ["AVX2"], "cores": 2, "system": "Linux", "python": "3.11"}
    found: dict[str, Any] = {"task": "T4", "candidate": name, "date": "2030-01-02", "command": "typed"}
    found |= {"machine": machine, "load_average": 1.0, "environment": "ort", "versions": {"onnx": "1"}, **more}
    if metric is not None:
        found |= {"score": {"metric": metric, "agree": 0.5, "n": 8}, "fp32_bytes": 400, "size_bytes": 100}
    return found


def test_a_table_has_the_best_first_and_failures_last(tmp_path: Path) -> None:
    table = module("table")
    rows = [row("bad", None, failed="1: Error: a | b"), row("late", 40.0), row("fp32", 35.0), row("late", 37.0)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*rows, row("good", 36.0)]))
    text = table.render(table.read_rows(path))
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[0] for line in lines] == ["| good", "| late", "| bad"]
    assert lines[1].startswith("| late | 37.0000 | +2.0000 | 0.5000 | 4.00 |")
    assert lines[2].endswith("| 1: Error: a / b |")
    assert "    typed\n" in text
    assert "CPU (AVX2), 2 cores" in text
    assert "- environment ort: onnx 1\n" in text


def test_the_brief_table_holds_all_tasks_in_one(tmp_path: Path) -> None:
    table = module("table")
    rows = [row("fp32", 35.0), row("edgekit", 36.0), row("bad", None, failed="1: Error")]
    lines = table.render_brief(rows).splitlines()
    assert lines[0] == "| task | candidate | metric (fp32) | times smaller | latency / fp32 | quantise s |"
    assert lines[2] == "| T4 SmolLM2-135M | **edgekit** | perplexity 36.0000 (35.0000) | 4.00 | - | - |"
    assert lines[3] == "| T4 SmolLM2-135M | bad | 1: Error | - | - | - |"
    assert "- environment ort: onnx 1" in lines


def test_a_bound_keeps_the_blocks_and_drops_what_is_added_to_them() -> None:
    """y = relu(a(x)) + b(relu(a(x))): only the block is left."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 2, 4, 4] x, float[2, 2, 1, 1] v, float[2, 2, 1, 1] w) => (float[1, 2, 4, 4] y) {
        a = Conv(x, v) r = Relu(a) b = Conv(r, w) s = Add(b, r) y = Relu(s) }"""
    model = onnx.parser.parse_model(text)
    bare = module("bound").without_additions(model)
    assert [(n.op_type, n.input[0]) for n in bare.graph.node] == [
        ("Conv", "x"),
        ("Relu", "a"),
        ("Conv", "r"),
        ("Relu", "b"),
    ]
    onnx.checker.check_model(bare)
    assert len(model.graph.node) == 5
