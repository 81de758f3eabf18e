"""Work handed to a child process: what crashes, hangs or hoards there harms nobody and is reported in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import psutil

from edgekit.errors import DataError, EdgekitError, MissingPackageError, ModelError, ProviderError

_TYPED: dict[str, type[EdgekitError]] = {
    e.__name__: e for e in (DataError, MissingPackageError, ModelError, ProviderError)
}


def ask_child(module: str, request: Mapping[str, Any], subject: str, *, timeout_s: float) -> dict[str, Any]:
    """Run `python -m module` with the request as JSON on stdin; the last line of its stdout is the answer.

    Args:
        module: A module that ends in `answer_parent(function)`.
        request: What JSON can hold.
        subject: What the child works on, for the messages.
        timeout_s: After this the child is killed.

    Raises:
        EdgekitError: the child's own, of its own type.
        ModelError: if it crashes, hangs, or ends without an answer.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-child-") as directory:
        try:
            done = subprocess.run(
                [sys.executable, "-m", module],
                input=json.dumps(request).encode(),
                cwd=directory,
                capture_output=True,
                timeout=timeout_s,
                env=child_environment(),
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"{subject} did not answer within {timeout_s:g} s; it hangs, or its inputs are too large"
            ) from None
    if done.returncode != 0:
        raise ModelError(f"{subject} {_death(done)}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise _TYPED.get(answer["kind"], ModelError)(answer["error"])
    return {**answer, "stderr": done.stderr.decode(errors="replace")}


def answer_parent(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side of `ask_child`: read the request, work, print the answer or the typed error."""
    request = json.loads(sys.stdin.read())
    try:
        answer = work(request)
    except EdgekitError as error:
        answer = _refusal(error)
    print("\n" + json.dumps(answer))


def give_up(error: EdgekitError) -> NoReturn:
    """The child's last word, from any thread: what runs in the others, C++ included, ends with the process."""
    print("\n" + json.dumps(_refusal(error)), flush=True)
    os._exit(0)


def _refusal(error: EdgekitError) -> dict[str, str]:
    return {"error": str(error), "kind": type(error).__name__}


def limit_memory() -> None:
    """Cap this process's address space at the machine's memory and some, where the system can."""
    try:
        import resource
    except ModuleNotFoundError:  # no rlimits on this system; the timeout still holds
        return
    limit = psutil.virtual_memory().total + (8 << 30)  # address space, of which libraries map several GB
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def child_environment() -> dict[str, str]:
    """What a child needs to find this package."""
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _death(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"crashes ONNX Runtime when it is loaded or run ({signal.Signals(-done.returncode).name})"
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"cannot be run: {' '.join(last)[:300] or f'exit code {done.returncode}'}"
