"""The first session of a file, in a child process with limits: a crash, a hang or a hoarder harms nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edgekit.errors import EdgekitError, ModelError
from edgekit.specs import Feeds

TIMEOUT_S = 300.0
_GUESSES = (1, 8, 32, 64, 224)


@dataclass(frozen=True)
class Probe:
    """What the child saw.

    Attributes:
        ran: Whether a run succeeded; False where no feeds were given and no guess of its inputs was accepted.
        finite: Whether every float output was finite.
        reason: Why it did not run, or "".
    """

    ran: bool
    finite: bool
    reason: str = ""


def probe_model(path: Path, feeds: Feeds | None = None, *, timeout_s: float = TIMEOUT_S) -> Probe:
    """Load a model and run it once, on one CPU thread, in a process of its own.

    Args:
        path: The model.
        feeds: Inputs to run; guessed from the model's specs where they are not given.
        timeout_s: After this the child is killed.

    Raises:
        ModelError: if it does not load, crashes, hangs, or fails on the feeds given.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-probe-") as directory:
        command = [sys.executable, "-m", "edgekit.graph.probe", str(path.resolve())]
        if feeds is not None:
            archive = Path(directory) / "feeds.npz"
            named: dict[str, Any] = {f"feed_{i}": v for i, v in enumerate(feeds.values())}
            np.savez(archive, **named)
            command += [str(archive), json.dumps(list(feeds))]
        try:
            done = subprocess.run(command, cwd=directory, capture_output=True, timeout=timeout_s, env=_environment())
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"{path} did not answer within {timeout_s:.0f} s; it hangs, or its inputs are too large"
            ) from None
    if done.returncode != 0:
        raise ModelError(f"{path} {_death(done)}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise ModelError(answer["error"].replace(str(path.resolve()), str(path)))
    return Probe(**answer)


def _environment() -> dict[str, str]:
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _death(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        import signal

        return f"crashes ONNX Runtime when it is loaded or run ({signal.Signals(-done.returncode).name})"
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"cannot be run: {' '.join(last)[:300] or f'exit code {done.returncode}'}"


def _limit_memory() -> None:
    try:
        import resource
    except ModuleNotFoundError:  # no rlimits on this system; the timeout still holds
        return
    limit = psutil.virtual_memory().total + (8 << 30)  # address space, of which libraries map several GB
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _child(arguments: list[str]) -> dict[str, Any]:
    from edgekit.ort.session import Session

    _limit_memory()
    session = Session(Path(arguments[0]), threads=1)
    if len(arguments) > 1:
        names = json.loads(arguments[2])
        with np.load(arguments[1], allow_pickle=False) as archive:
            feeds = {name: archive[f"feed_{i}"] for i, name in enumerate(names)}
        return _answer(session.run(feeds))
    return _guess(session)


def _guess(session: Any) -> dict[str, Any]:
    from edgekit.graph.feeds import generate_feeds

    reason = ""
    for dim in _GUESSES:
        try:
            return _answer(session.run(generate_feeds(session.inputs, default_dim=dim)))
        except (EdgekitError, TypeError) as error:
            reason = str(error)
    return {"ran": False, "finite": False, "reason": reason}


def _answer(outputs: list[Any]) -> dict[str, Any]:
    floats = [o for o in outputs if isinstance(o, np.ndarray) and o.dtype.kind == "f"]
    return {"ran": True, "finite": all(bool(np.isfinite(o).all()) for o in floats)}


if __name__ == "__main__":
    try:
        result = _child(sys.argv[1:])
    except EdgekitError as failure:
        result = {"error": str(failure)}
    print(json.dumps(result))
