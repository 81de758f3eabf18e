"""The measuring loop in a process of its own: a model that crashes or hangs there is reported in one line.

What is measured goes there, and what was recorded comes back, as a pickle in a private temporary directory.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekit.bench.records import BenchRequest
from edgekit.bench.steady import Case, Steady, measure_cases
from edgekit.errors import EdgekitError, ModelError
from edgekit.interrupt import interruptible
from edgekit.ort.child import child_environment, limit_memory
from edgekit.progress import advancing

_LOOK_S = 1.0
_LAST_WORDS_S = 0.8  # to write down what was recorded; Ctrl-C promises to end within a second
_QUESTION, _ANSWER, _PULSE, _LOG = "question", "answer", "pulse", "log"


class Pulse:
    """What a process is doing, in a mapped file: a beat costs no system call, and it can be read after a crash.

    Args:
        path: The file; made where it is not there.
    """

    _FORM = struct.Struct("<qqd")

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(self._FORM.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._FORM.size)
        self._turns = 0

    def beat(self, case: int, done: float) -> None:
        """Say that this case is being run, and which share of the whole is done."""
        self._turns += 1
        self._FORM.pack_into(self._map, 0, self._turns, case, done)

    def read(self) -> tuple[int, int, float]:
        """How many beats there were, and what the last one said."""
        turns, case, done = self._FORM.unpack_from(self._map)
        return turns, case, done


def measure_guarded(cases: Sequence[Case], request: BenchRequest) -> Steady:
    """Measure cases in a child process; when the user stops it, it gives what there is.

    Raises:
        ModelError: if a model fails, crashes, or does not end a run within the request's limit.
        ProviderError: if the provider is not there.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as place:
        directory = Path(place)
        (directory / _QUESTION).write_bytes(pickle.dumps((tuple(cases), request)))
        pulse = Pulse(directory / _PULSE)
        with (directory / _LOG).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "edgekit.bench.guarded", place],
                stdout=subprocess.PIPE,
                stderr=log,
                env=child_environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for us, who pass it on
            )
        # reads what the child prints, which nobody needs, until it ends
        reader = threading.Thread(target=child.communicate, daemon=True)
        reader.start()
        try:
            _watch(reader, pulse, cases, request.timeout_s)
        except KeyboardInterrupt:
            _stop(child)
            return _answer(directory) or Steady({}, {}, complete=False)
        finally:
            child.kill()
            reader.join()
        return _answer(directory) or _no_answer(child.returncode, directory, pulse, cases)


def _watch(reader: threading.Thread, pulse: Pulse, cases: Sequence[Case], limit_s: float) -> None:
    """Wait for the child to end; refuse to wait on when nothing has happened for too long."""
    last, since = -1, time.monotonic()
    with advancing(f"measuring on {cases[0].provider}", 1.0) as show:
        while reader.is_alive():
            reader.join(min(_LOOK_S, limit_s))
            turns, case, done = pulse.read()
            show(done)
            if turns != last:
                last, since = turns, time.monotonic()
            elif time.monotonic() - since > limit_s and reader.is_alive():
                raise ModelError(f"{cases[case].model}: a run did not end within {limit_s:g} s; it hangs")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(_LAST_WORDS_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _answer(directory: Path) -> Steady | None:
    file = directory / _ANSWER
    if not file.exists():
        return None
    answer: Any = pickle.loads(file.read_bytes())
    if isinstance(answer, EdgekitError):
        raise answer
    found: Steady = answer
    return found


def _no_answer(code: int, directory: Path, pulse: Pulse, cases: Sequence[Case]) -> Steady:
    """Say how the child died, and of which model."""
    turns, number, _ = pulse.read()
    case = cases[number]
    if code < 0:
        name = signal.Signals(-code).name
        why = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        raise ModelError(
            f"{case.model} crashed ONNX Runtime in the measuring loop, after {turns} turns at batch {case.cold.batch} "
            f"({name}{why}); it had passed its first runs"
        )
    last = (directory / _LOG).read_text(errors="replace").strip().splitlines()[-1:]
    raise ModelError(f"{case.model} cannot be measured: {' '.join(last)[:300] or f'exit code {code}'}")


def _work(directory: Path, stop_if_orphaned: Callable[[], None]) -> None:
    """The child's part."""
    cases, request = pickle.loads((directory / _QUESTION).read_bytes())
    pulse = Pulse(directory / _PULSE)

    def beat(case: int, done: float) -> None:
        stop_if_orphaned()
        pulse.beat(case, done)

    if cases[0].provider == "cpu":  # drivers of devices map far more address space than there is memory
        limit_memory()
    answer: Steady | EdgekitError
    try:
        with interruptible():
            answer = measure_cases(cases, request, beat)
    except EdgekitError as error:
        answer = error
    draft = directory / f"{_ANSWER}.tmp"
    draft.write_bytes(pickle.dumps(answer))
    draft.replace(directory / _ANSWER)


def _orphan_check() -> Callable[[], None]:
    parent = os.getppid()

    def check() -> None:
        if os.getppid() != parent:
            raise SystemExit(1)

    return check


if __name__ == "__main__":
    _work(Path(sys.argv[1]), _orphan_check())
