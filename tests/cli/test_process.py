"""What only a process of its own can show: what is imported, escape codes, a missing ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Process = Callable[..., Any]
_IMPORTS = (
    "import sys; sys.argv = ['edgekit', *sys.argv[1:]]\n"
    "from edgekit.__main__ import main\n"
    "try: main()\n"
    "finally: print([m for m in ('torch', 'lightning', 'transformers', 'onnxruntime', 'onnx', 'plotly')"
    " if m in sys.modules], file=sys.stderr)"
)


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["quantize", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(process: Process, args: list[str]) -> None:
    answer = process(*args, code=_IMPORTS)
    assert answer.code == 0
    assert answer.err == "[]\n"


@pytest.mark.skipif(os.name != "posix", reason="asks the system for the CPU time of a process")
def test_help_is_quick(process: Process) -> None:
    """Under 0.25 s on an idle machine; the bound on the best of a few leaves room for what else runs."""
    import resource

    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.75


@pytest.mark.parametrize("args", [["list", "families"], ["list", "nothing"], ["run", "nothing"]])
def test_what_needs_no_torch_imports_none(process: Process, args: list[str]) -> None:
    assert "torch" not in process(*args, code=_IMPORTS).err.splitlines()[-1]


@pytest.mark.parametrize("args", [["list", "recipes"], ["inspect", "MODEL"], ["eval", "MODEL", "--data", "none"]])
def test_no_color_means_no_escape_codes(process: Process, dense_onnx: Path, args: list[str]) -> None:
    shown = [str(dense_onnx) if a == "MODEL" else a for a in args]
    answer = process(*shown, NO_COLOR="1", FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b[3" not in answer.out + answer.err
    assert "\x1b[9" not in answer.out + answer.err


def test_a_pipe_gets_no_escape_codes(process: Process) -> None:
    answer = process("list", "families", TERM="xterm-256color")
    assert "\x1b" not in answer.out + answer.err


@pytest.fixture
def without_runtime(tmp_path: Path) -> str:
    """A directory that hides ONNX Runtime when it is on PYTHONPATH."""
    place = tmp_path / "hidden"
    place.mkdir()
    (place / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
    )
    return str(place)


@pytest.mark.parametrize(
    "args",
    [
        ["eval", "MODEL", "--data", "digits"],
        ["bench", "MODEL"],
        ["quantize", "MODEL", "--out", "q.onnx"],
        ["list", "providers"],
    ],
)
def test_without_onnx_runtime_every_command_says_what_to_install(
    process: Process, without_runtime: str, dense_onnx: Path, args: list[str], tmp_path: Path
) -> None:
    shown = [str(dense_onnx) if a == "MODEL" else str(tmp_path / a) if a == "q.onnx" else a for a in args]
    answer = process(*shown, "--quiet", PYTHONPATH=without_runtime)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.splitlines()[-1].startswith(
        "error: ONNX Runtime is not installed; install exactly one: pip install 'edgekit[cpu]' or"
    )
    assert not (tmp_path / "q.onnx").exists()


def test_the_recipe_part_works_without_onnx_runtime(process: Process, without_runtime: str) -> None:
    assert process("schema", PYTHONPATH=without_runtime).json()["title"] == "Recipe"


def test_quiet_says_nothing_but_the_answer(process: Process, dense_onnx: Path, tmp_path: Path) -> None:
    answer = process("export", dense_onnx, "--out", tmp_path / "o.onnx", "--quiet")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out


@pytest.mark.skipif(os.name != "posix", reason="speaks of shells")
def test_shell_completion_can_be_shown(process: Process) -> None:
    answer = process("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert answer.code == 0
    assert "_EDGEKIT_COMPLETE" in answer.out or "complete" in answer.out
