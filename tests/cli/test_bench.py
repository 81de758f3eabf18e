from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

Cli = Callable[..., Any]
QUICK = ("--threads", 1, "--min-seconds", 0.02)


def test_a_comparison_is_in_the_table_in_json_and_in_files(cli: Cli, dense_onnx: Path, tmp_path: Path) -> None:
    files = {flag: tmp_path / f"out{end}" for flag, end in (("csv", ".csv"), ("markdown", ".md"), ("samples", ".npz"))}
    flags = [part for flag, path in files.items() for part in (f"--{flag}", path)]
    answer = cli("bench", dense_onnx, dense_onnx, "--compare", "--json", *QUICK, *flags)
    assert (answer.code, answer.err) == (0, "")
    document = answer.json()
    (found,) = document["comparisons"]
    assert (found["model"], found["baseline"], found["provider"]) == (str(dense_onnx), str(dense_onnx), "cpu")
    assert found["ci95"][0] <= found["speedup"] <= found["ci95"][1]
    assert found["verdict"] in ("FASTER", "SLOWER", "NO DIFFERENCE", "TOO NOISY")
    assert len(files["csv"].read_text().splitlines()) == 3
    assert f"edgekit bench {dense_onnx}" in files["markdown"].read_text()
    assert sorted(np.load(files["samples"]).files) == ["ms_0", "ms_1", "report", "rounds_0", "rounds_1"]


def test_a_comparison_for_people(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("bench", dense_onnx, dense_onnx, "--compare", "--top", 1, *QUICK)
    assert answer.code == 0
    assert "against dense.onnx" in answer.out
    assert "slowest operators" in answer.out


def test_what_is_required_and_not_shown_is_exit_3(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("bench", dense_onnx, dense_onnx, "--require", "faster", "--json", *QUICK)
    if answer.json()["comparisons"][0]["verdict"] == "FASTER":  # noise can say so
        pytest.skip("the machine found a model faster than itself")
    assert answer.code == 3
    assert answer.err.startswith("warning: --require faster is not met by 1 of 1 comparisons: ")


def test_models_that_do_other_work_are_not_compared(cli: Cli, dense_onnx: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    model = onnx.load(dense_onnx)
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"
    onnx.save(model, other)
    answer = cli("bench", dense_onnx, other, "--compare", "--min-seconds", 1e6)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: {other} cannot be compared with {dense_onnx}: its ")


def test_one_model_cannot_be_compared(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("bench", dense_onnx, "--compare")
    assert (answer.code, answer.out) == (2, "")
    assert "--compare needs two models or more" in answer.err


def test_samples_are_in_json_when_asked_for(cli: Cli, dense_onnx: Path) -> None:
    (row,) = cli("bench", dense_onnx, "--json", "--with-samples", *QUICK).json()["rows"]
    assert len(row["samples_ms"]) == len(row["samples_round"]) == row["n"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--csv", "{model}"], "error: output {model} is the input {model}; edgekit never overwrites its input"),
        (["--markdown", "{dir}"], "error: cannot write {dir}: it is a directory; name a file"),
        (["--samples", "{dir}/s.txt"], "error: cannot write samples to {dir}/s.txt: the name must end in .json"),
        (["--csv", "{dir}/o", "--markdown", "{dir}/./o"], "error: {dir}/o is named for two outputs; name another"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_anything_is_measured(
    cli: Cli, dense_onnx: Path, tmp_path: Path, flags: list[str], said: str
) -> None:
    before = dense_onnx.read_bytes()
    names = {"model": dense_onnx, "dir": tmp_path}
    answer = cli("bench", dense_onnx, "--min-seconds", 1e6, *(flag.format(**names) for flag in flags))
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(said.format(**names))
    assert dense_onnx.read_bytes() == before
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == '["dense.onnx"]'


def test_a_report_is_compared_with_itself_and_a_slower_one_is_exit_3(
    cli: Cli, dense_onnx: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    args = ("bench", dense_onnx, *QUICK)
    assert cli(*args, "--samples", kept).code == 0
    document = json.loads(kept.read_text())
    found = cli(*args, "--against", kept, "--json", "--tolerance", 1000).json()["against"]
    assert [r["model"] for r in found["rows"]] == [str(dense_onnx)]
    assert (found["missing"], found["new"], found["regressions"]) == ([], [], 0)
    for held in document["rows"]:
        held["samples_ms"] = [t / 100 for t in held["samples_ms"]]
        held["latency_ms"]["p50"] /= 100
    kept.write_text(json.dumps(document))
    answer = cli(*args, "--against", kept)
    assert answer.code == 3
    assert "SLOWER" in answer.out
    assert answer.err.splitlines()[-1].startswith(
        f"warning: 1 of 1 rows are slower than in {kept}: {dense_onnx} on cpu"
    )


def test_an_old_report_that_is_none_is_refused_before_anything_is_measured(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("bench", dense_onnx, "--against", dense_onnx, "--min-seconds", 1e6)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: {dense_onnx} is not JSON; make one with --samples FILE.json")


def test_a_profile_is_a_trace_and_shows_the_slowest_operators(cli: Cli, dense_onnx: Path, tmp_path: Path) -> None:
    answer = cli("bench", dense_onnx, *QUICK, "--profile", tmp_path / "t.json", "--html", tmp_path / "p.html")
    assert answer.code == 0
    assert "slowest operators" in answer.out
    events = json.loads((tmp_path / "t.json").read_text())
    assert [e["name"] for e in events if e.get("cat") == "Session"].count("model_run") > 1
    assert events[0]["args"]["name"] == "dense.onnx on cpu, batch 1"
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
