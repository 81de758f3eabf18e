from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def one_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.bench import tune
    from edgekit.bench.candidates import Change

    arena = Change("no memory arena", {"enable_cpu_mem_arena": False})
    monkeypatch.setattr(tune, "candidates", lambda *_: [arena])


@pytest.mark.usefixtures("one_setting")
def test_what_is_found_is_written_and_can_be_measured_with(cli: Cli, dense_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    answer = cli("bench", dense_onnx, "--tune", "--tune-seconds", 1, "--threads", 1, "--out", out, "--json")
    assert answer.code == 0
    assert answer.json() == json.loads(out.read_text())
    assert [trial["title"] for trial in answer.json()["trials"]][:1] == ["no memory arena"]
    held = {**answer.json(), "config_entries": {"session.intra_op.allow_spinning": "0"}, "threads": 1}
    out.write_text(json.dumps(held))
    measured = cli("bench", dense_onnx, "--session-options", out, "--min-seconds", 0.05, "--json")
    assert measured.code == 0
    assert measured.json()["rows"][0]["threads"] == 1
    assert any("session.intra_op.allow_spinning=0, threads=1" in note for note in measured.json()["notes"])
    settings = {**answer.json()["session_options"], "session.intra_op.allow_spinning": "0"}
    assert measured.json()["rows"][0]["session_options"] == settings


@pytest.mark.usefixtures("one_setting")
def test_a_person_gets_a_table_and_one_sentence(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("bench", dense_onnx, "--tune", "--tune-seconds", 1, "--threads", 1)
    assert answer.code == 0
    assert "no memory arena" in answer.out
    assert "faster than the defaults" in answer.out or "best: " in answer.out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", "o.json"], "--out belongs to --tune"),
        (["--objective", "latency"], "--objective belongs to --tune"),
        (["--tune", "--csv", "r.csv"], "--csv does not go with --tune"),
        (["--tune", "--scenario", "server"], "--scenario does not go with --tune"),
        (["--tune", "--session-options", "o.json"], "--session-options does not go with --tune"),
        (["--tune", "MODEL"], "--tune takes one model, got 2"),
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(
    cli: Cli, dense_onnx: Path, args: list[str], message: str
) -> None:
    answer = cli("bench", dense_onnx, *(dense_onnx if a == "MODEL" else a for a in args))
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.replace("│", " ").split())


def test_an_unknown_objective_names_the_nearest_and_the_model_is_never_overwritten(cli: Cli, dense_onnx: Path) -> None:
    before = dense_onnx.read_bytes()
    answer = cli("bench", dense_onnx, "--tune", "--objective", "latensy")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: unknown objective 'latensy'; did you mean 'latency'?")
    answer = cli("bench", dense_onnx, "--tune", "--out", dense_onnx)
    assert answer.code == 1
    assert "edgekit never overwrites its input" in answer.err
    assert dense_onnx.read_bytes() == before


def test_ctrl_c_gives_the_best_until_then(background: Callable[..., Any], dense_onnx: Path, tmp_path: Path) -> None:
    import psutil

    running = background("bench", dense_onnx, "--tune", "--tune-seconds", 300, "--out", tmp_path / "o.json")
    own = psutil.Process(running.popen.pid)
    started: list[bool] = []
    # the cold start is a child process; when it is over, the search begins
    running.wait_until(lambda: started.append(bool(own.children())) or (True in started and not own.children()))
    code, seconds = running.stop(signal.SIGINT)
    assert code == 130
    assert seconds < 1.5
    assert "interrupted; nothing was tried until then" in running.said


def test_an_optimised_file_is_used_for_its_model_and_refused_for_another(
    cli: Cli, dense_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.bench import tune

    real = tune._Bench.compare

    def faster(self: Any, *args: Any) -> Any:  # of so small a model the gain is within the noise
        return dataclasses.replace(real(self, *args), verdict=tune.Verdict.FASTER)

    monkeypatch.setattr(tune._Bench, "compare", faster)
    monkeypatch.setattr(tune, "candidates", lambda *_: [])
    out, kept = tmp_path / "o.json", tmp_path / "o.optimized.onnx"
    flags = ("--tune", "--objective", "session_ms", "--tune-seconds", 1, "--threads", 1, "--out", out)
    answer = cli("bench", dense_onnx, *flags)
    assert answer.code == 0
    assert "best: optimized_model=o.optimized.onnx" in answer.out
    assert "o.optimized.onnx, for this CPU and this version of ONNX Runtime alone" in " ".join(answer.err.split())
    table = tmp_path / "rows.csv"
    measured = cli(
        "bench", dense_onnx, "--session-options", out, "--min-seconds", 0.05, "--threads", 1, "--csv", table, "--json"
    )
    row = measured.json()["rows"][0]
    assert row["model"] == str(dense_onnx)
    assert row["session_options"] == {"optimized_model": "o.optimized.onnx"}
    assert "session_options.optimized_model" in table.read_text().splitlines()[0]
    kept.write_bytes(dense_onnx.read_bytes())
    refused = cli("bench", dense_onnx, "--session-options", out)
    assert (refused.code, refused.out) == (1, "")
    assert "its optimised file o.optimized.onnx was changed since it was proven" in refused.err


def test_the_optimised_file_never_replaces_the_model(cli: Cli, dense_onnx: Path, tmp_path: Path) -> None:
    model = tmp_path / "o.optimized.onnx"
    model.write_bytes(dense_onnx.read_bytes())
    answer = cli("bench", model, "--tune", "--objective", "session_ms", "--out", tmp_path / "o.json")
    assert answer.code == 1
    assert "edgekit never overwrites its input" in answer.err
