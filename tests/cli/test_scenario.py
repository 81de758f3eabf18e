from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
pytest.importorskip("mlperf_loadgen", reason="MLPerf's LoadGen is not installed: pip install 'edgekit[loadgen]'")


def test_a_valid_scenario_is_a_table_with_what_was_asked_for(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("bench", dense_onnx, "--scenario", "single-stream", "--min-seconds", 0.1, "--threads", 1)
    assert answer.code == 0
    assert "VALID" in answer.out
    assert "at least 0.1 s, at least 100 queries" in " ".join(answer.out.split())


def test_an_invalid_scenario_is_a_verdict_no(cli: Cli, dense_onnx: Path) -> None:
    args = ["--target-qps", 2000, "--latency-bound-ms", 0.001, "--min-seconds", 0.1, "--threads", 1, "--json"]
    answer = cli("bench", dense_onnx, "--scenario", "server", *args)
    assert answer.code == 3
    assert answer.json()["scenarios"][0]["verdict"] == "INVALID"
    assert answer.err.splitlines()[-1].startswith("warning: LoadGen says INVALID of")
    assert "Performance constraints satisfied: NO" in answer.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--scenario", "offline", "--target-qps", "3"], "--target-qps belongs to --scenario server"),
        (["--scenario", "server", "--samples-per-query", "3"], "--samples-per-query belongs to --scenario"),
        (["--latency-bound-ms", "3"], "--latency-bound-ms belongs to --scenario"),
        (["--mlperf"], "--mlperf belongs to --scenario"),
        (["--logs", "l"], "--logs belongs to --scenario"),
        (["--scenario", "server", "--mlperf", "--min-seconds", "3"], "--mlperf sets --min-seconds"),
        (["--scenario", "server", "--csv", "r.csv"], "--csv does not go with --scenario"),
        (["--scenario", "server", "--top", "3"], "--top does not go with --scenario"),
        (["--scenario", "server", "--streams", "1", "--streams", "2"], "a scenario takes one --streams"),
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(
    cli: Cli, dense_onnx: Path, args: list[str], message: str
) -> None:
    answer = cli("bench", dense_onnx, *args)
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.replace("│", " ").split())


def test_an_unknown_scenario_names_the_nearest(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("bench", dense_onnx, "--scenario", "offlin")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: unknown scenario 'offlin'; did you mean 'offline'?")


def test_ctrl_c_stops_loadgen_and_its_child(background: Callable[..., Any], dense_onnx: Path) -> None:
    import psutil

    running = background("bench", dense_onnx, "--scenario", "offline", "--min-seconds", 60, "--threads", 1)
    own = psutil.Process(running.popen.pid)
    running.wait_until(lambda: len(own.children()) == 1 and own.children()[0].num_threads() > 2)
    children = own.children()
    code, seconds = running.stop(signal.SIGINT)
    assert code == 130
    assert seconds < 1.5
    assert running.said.splitlines()[-1] == "interrupted; no scenario was finished"
    assert psutil.wait_procs(children, timeout=3)[1] == []
