"""edgekit bench, stopped or given what it cannot measure."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Background

Cli = Callable[..., Any]


def _looks_measuring(command: Background) -> bool:
    """Whether the measuring process has been started and is at work."""
    children = psutil.Process(command.popen.pid).children(recursive=True)
    return any("edgekit.bench.guarded" in child.cmdline() and child.cpu_times().user > 0.6 for child in children)


def _measures(command: Background) -> bool:
    """The same; a cold start that ends while it is looked at says no."""
    try:
        return _looks_measuring(command)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # a zombie is a NoSuchProcess too
        return False


def test_a_command_that_is_killed_leaves_no_process(background: Callable[..., Background], dense_onnx: Path) -> None:
    command = background("bench", dense_onnx, "--min-seconds", 1000, "--threads", 1)
    command.wait_until(lambda: _measures(command))
    (child,) = psutil.Process(command.popen.pid).children()
    command.popen.kill()
    child.wait(5)
    assert not child.is_running()


@pytest.mark.parametrize("flags", [("--threads", 1), ("--streams", 2, "--threads", 1)], ids=["alone", "streams"])
def test_ctrl_c_prints_what_was_measured_within_a_second(
    background: Callable[..., Background], dense_onnx: Path, flags: tuple[object, ...]
) -> None:
    command = background("bench", dense_onnx, "--json", "--min-seconds", 1000, *flags)
    command.wait_until(lambda: _measures(command))
    code, seconds = command.stop(signal.SIGINT)
    assert code == 130
    assert seconds < 1.5  # a second, and what a machine that runs other tests adds
    assert command.popen.stdout is not None
    document = json.loads(command.popen.stdout.read())
    assert document["complete"] is False
    assert document["rows"][0]["n"] > 0
    assert command.said == "interrupted; the rows above are what was measured until then\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch", 0], "error: batch 0 cannot be measured; a batch has at least 1 sample"),
        (["--batch", 2, "--batch", -3], "error: batch -3 cannot be measured"),
        (["--streams", 0], "error: 0 streams cannot run anything; give at least 1"),
        (["--streams", 9999], "error: 9999 streams are too many; give at most 256"),
        (
            ["--batch", 10**12],
            "error: {model}: inputs of these shapes take 256,000,000,000,000 bytes, the largest is image",
        ),
        (
            ["--shape", "image=3x1x8x8", "--batch", 4],
            "error: {model}: --shape image=3x1x8x8 has batch 3 and --batch says 4",
        ),
        (["--timeout", 0.01], "error: {model} did not answer within 0.01 s; it hangs"),
        (["--timeout", 0], "error: seconds and runs of a benchmark must be above 0"),
    ],
)
def test_what_cannot_be_measured_is_one_line(cli: Cli, dense_onnx: Path, flags: list[object], message: str) -> None:
    answer = cli("bench", dense_onnx, *flags, "--min-seconds", 1000)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(message.format(model=dense_onnx))
    assert len(answer.err.splitlines()) == 1
