from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import ModelError, ProviderError
from edgekit.ort.child import ask_child
from tests.conftest import ROOT

_CHILD = """
import os, signal, sys, time
from edgekit.errors import ProviderError
from edgekit.ort.child import answer_parent

def work(question):
    what = question["what"]
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(60)
    if what == "refuse":
        raise ProviderError("not here")
    if what == "fail":
        raise ZeroDivisionError("by zero")
    print("noise on stdout")
    print("noise on stderr", file=sys.stderr)
    return {"got": what}

if __name__ == "__main__":
    answer_parent(work)
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_child.py").write_text(_CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_the_answer_comes_back_whatever_else_is_printed() -> None:
    answer = ask_child("a_child", {"what": "ünïcode"}, "x.onnx", timeout_s=30)
    assert answer["got"] == "ünïcode"
    assert "noise on stderr" in answer["stderr"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSEGV to send")
def test_a_crash_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"x\.onnx crashes ONNX Runtime when it is loaded or run \(SIGSEGV\)"):
        ask_child("a_child", {"what": "crash"}, "x.onnx", timeout_s=30)


def test_a_hang_is_ended() -> None:
    with pytest.raises(ModelError, match=r"x\.onnx did not answer within 1 s; it hangs"):
        ask_child("a_child", {"what": "hang"}, "x.onnx", timeout_s=1.0)


def test_the_childs_error_keeps_its_type() -> None:
    with pytest.raises(ProviderError, match="not here"):
        ask_child("a_child", {"what": "refuse"}, "x.onnx", timeout_s=30)


def test_any_other_end_says_why() -> None:
    with pytest.raises(ModelError, match=r"x\.onnx cannot be run: ZeroDivisionError: by zero"):
        ask_child("a_child", {"what": "fail"}, "x.onnx", timeout_s=30)


def test_a_limit_of_the_shell_is_kept() -> None:
    """Under `ulimit -v` the child's own limit would lie above what the system allows."""
    code = (
        "import resource as r; from edgekit.ort.child import limit_memory; "
        "r.setrlimit(r.RLIMIT_AS, (4 << 30, 4 << 30)); limit_memory(); print(r.getrlimit(r.RLIMIT_AS)[0] >> 30)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "4", done.stderr
