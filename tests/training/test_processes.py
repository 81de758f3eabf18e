from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgekit import progress
from edgekit.errors import BusyError, TrainingError
from edgekit.files import locked
from edgekit.training.config import TrainConfig
from edgekit.training.processes import held, helps, is_first, team
from edgekit.training.request import train_family

ROOT = Path(__file__).resolve().parents[2]
TWO = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]
PICO = ["train", "mlp", "--size", "pico", "--data", "digits", "--learning-rate", "1e-2"]
SEVERAL = TrainConfig(devices=2)
LAUNCHERS = ("RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")

# edgekit, with training steps that write down what they see and then do what the test wants of them
SCRIPT = """\
import os, pathlib, signal, sys, time
if os.environ.get("LOCAL_RANK") == "1":
    exec(os.environ.get("START", ""))
from edgekit.errors import DivergenceError
from edgekit.training.module import FitModule

step = FitModule.training_step

def watched(self, batch, index):
    with open(pathlib.Path(os.environ["SEEN"]) / f"{self.global_rank}.txt", "a") as file:
        for picture in batch[0][0]:
            file.write(f"{self.current_epoch} {picture.double().numpy().tobytes().hex()[:400]}\\n")
    if index == 2 and self.global_rank == int(os.environ.get("VICTIM", -1)):
        exec(os.environ["FATE"])
    if index == 2 and self.global_rank == 0:
        time.sleep(float(os.environ.get("STALL_S", 0)))
    return step(self, batch, index)

FitModule.training_step = watched
from edgekit.__main__ import main
main()
"""


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start the script with arguments and environment; what it started is gone in the end."""
    (tmp_path / "seen").mkdir()
    (tmp_path / "watched.py").write_text(SCRIPT)
    started = []

    def start(*args: object, **env: str) -> subprocess.Popen[str]:
        found = subprocess.Popen(
            [sys.executable, str(tmp_path / "watched.py"), *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SEEN": str(tmp_path / "seen"), **env},
        )
        started.append(psutil.Process(found.pid))
        return found

    yield start
    for process in started:
        if process.is_running():
            process.kill()


def samples(tmp_path: Path, rank: int) -> list[tuple[str, str]]:
    """(epoch, sample) of each training sample that a process saw."""
    lines = (tmp_path / "seen" / f"{rank}.txt").read_text().splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "4", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        ({"SLURM_PROCID": "2"}, False),
    ],
)
def test_who_leads(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], first: bool) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first() is first
    assert helps(SEVERAL) is not first
    assert not helps(TrainConfig())  # one process is the first, whatever the environment says


def test_a_helper_leaves_the_lock_to_the_first_process_and_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.set_quiet(False)
    with locked(tmp_path):
        with pytest.raises(BusyError), held(tmp_path, SEVERAL):
            pass
        monkeypatch.setenv("LOCAL_RANK", "1")
        with held(tmp_path, SEVERAL):
            assert progress.is_quiet()


def test_a_helper_ends_where_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as stop, team(SEVERAL, tmp_path):
        pass
    assert stop.value.code == 0
    with pytest.raises(ZeroDivisionError), team(SEVERAL, tmp_path):  # started by hand, it tells its error itself
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"strategy": "ddp_spawn"},
            "strategy 'ddp_spawn' trains in copies of this process, and what they find is lost",
        ),
        ({}, "training in several processes runs the same command again, and `python -c` cannot be"),
    ],
)
def test_what_cannot_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["-c"])
    with pytest.raises(TrainingError) as error:
        train_family("mlp", "pico", "digits", tmp_path, {"devices": 2, "accelerator": "cpu", **options})
    assert str(error.value).startswith(message)


@pytest.mark.slow
def test_two_processes_share_the_samples(tmp_path: Path, script: Callable[..., Any]) -> None:
    out = tmp_path / "out"
    running = script(*PICO, *TWO, "--epochs", 6, "--batch-size", 25, "--out", out, "--json")
    said, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert errors == ""
    result = json.loads(said)  # one document: the other process says nothing
    assert result["validation"]["value"] > 0.85
    assert [row["epoch"] for row in result["history"]] == [1, 2, 3, 4, 5, 6]
    first, second = samples(tmp_path, 0), samples(tmp_path, 1)
    assert len(first) == len(second) == 6 * 500
    for epoch in map(str, range(6)):
        halves = [{s for e, s in seen if e == epoch} for seen in (first, second)]
        assert len(halves[0]) == len(halves[1]) == 500
        assert not halves[0] & halves[1]
    value = result["validation"]["value"] * 237  # of all validation samples, each counted once
    assert value == pytest.approx(round(value), abs=1e-3)
    assert not list(out.glob("work/*/helpers"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fate", "message"),
    [
        ("raise DivergenceError('training diverged: as told')", "error: training diverged: as told; nothing is kept"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "error: training in several processes failed: "),
    ],
    ids=["diverges", "is killed"],
)
def test_what_ends_one_process_ends_both_with_one_line(
    tmp_path: Path, script: Callable[..., Any], fate: str, message: str
) -> None:
    running = script(*PICO, *TWO, "--epochs", 50, "--out", tmp_path / "out", "-q", VICTIM="1", FATE=fate)
    said, errors = running.communicate(timeout=120)
    assert running.returncode == 1, errors
    assert said == ""
    assert errors.startswith(message)
    assert errors.count("\n") == 1
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"VICTIM": "1", "FATE": "os.kill(os.getpid(), signal.SIGKILL)", "STALL_S": "100"}, -9),
        ({"START": "sys.exit(5)"}, 5),
    ],
    ids=["in training", "before it"],
)
def test_a_failed_helper_ends_a_first_process_that_waits_for_it(
    tmp_path: Path, script: Callable[..., Any], environment: dict[str, str], code: int
) -> None:
    running = script(*PICO, *TWO, "--epochs", 50, "--out", tmp_path / "out", "-q", **environment)
    said, errors = running.communicate(timeout=90)
    assert running.returncode == 1, errors
    assert said == ""
    assert errors == f"error: training in several processes failed: a process of it ended with exit code {code}\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_interrupted_and_resumed(tmp_path: Path, script: Callable[..., Any]) -> None:
    out = tmp_path / "out"
    command = [*PICO, *TWO, "--epochs", 12, "--set", "ema=0.9", "--set", "augment.shift=1", "-q"]
    running = script(*command, "--out", out, VICTIM="0", FATE="time.sleep(0.2)")
    until = time.monotonic() + 60
    while not list(out.glob("work/*/last.ckpt")):
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    others = psutil.Process(running.pid).children()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.startswith("interrupted; ")
    _, alive = psutil.wait_procs(others, timeout=20)
    assert not alive
    again = script(*command, "--out", out, "--json")
    said, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert [row["epoch"] for row in json.loads(said)["history"]] == list(range(1, 13))
    for rank in (0, 1):  # each epoch in full; that of the interruption up to there once more
        epochs = [int(e) for e, _ in samples(tmp_path, rank)]
        assert {e: epochs.count(e) for e in (0, 11)} == {0: 384, 11: 384}
        assert len(epochs) < 13 * 384 + 384


@pytest.mark.slow
def test_two_machines(tmp_path: Path, script: Callable[..., Any]) -> None:
    """On one: what makes two of it is the number of the node."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    nodes = [
        "--accelerator",
        "cpu",
        "--num-nodes",
        "2",
        "--strategy",
        "ddp",
        "--epochs",
        3,
        "--batch-size",
        25,
        "--json",
    ]
    running = [script(*PICO, *nodes, "--out", tmp_path / "out", NODE_RANK=str(rank), **where) for rank in (0, 1)]
    answers = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0], answers
    assert json.loads(answers[0][0])["validation"]["value"] > 0.7
    assert answers[1] == ("", "")
    assert len(samples(tmp_path, 0)) == len(samples(tmp_path, 1)) == 3 * 500
