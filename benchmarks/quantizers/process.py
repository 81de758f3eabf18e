"""One step as a process of its own: pinned to one core, one thread, killed after a time limit, its memory watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_S = 0.05
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
_TELLTALES = ("error:", "Error", "Exception", "not supported", "Killed")
# ru_maxrss counts kilobytes on Linux, bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Limits:
    """What a step may use.

    Attributes:
        cpu: The core it is pinned to; None where the system cannot pin.
        timeout_s: After this the whole tree is killed.
    """

    cpu: int | None
    timeout_s: float


@dataclass(frozen=True)
class Ended:
    """How a step ended.

    Attributes:
        code: Exit code; None if it was killed for its time.
        seconds: Wall time.
        peak_rss_bytes: Of the tree, as sampled; at least that of its largest process.
        said: What it printed.
        complained: What it printed on stderr.
    """

    code: int | None
    seconds: float
    peak_rss_bytes: int
    said: str
    complained: str

    @property
    def reason(self) -> str:
        """Why it failed, in one line; empty if it did not."""
        if self.code == 0:
            return ""
        lines = [line.strip() for line in (self.said + "\n" + self.complained).splitlines() if line.strip()]
        telling = [line for line in lines if any(word in line for word in _TELLTALES)] or lines
        return f"{'timeout' if self.code is None else self.code}: {telling[-1] if telling else ''}"[:300]


def default_cpu() -> int | None:
    """The last core of those that this process may use; the first serves interrupts."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def checked_cpu(cpu: int | None) -> int | None:
    """The core, if this process may use it."""
    if cpu is not None and hasattr(os, "sched_getaffinity") and cpu not in os.sched_getaffinity(0):
        allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise SystemExit(f"error: --cpu {cpu}: this process may use {allowed}")
    return cpu


def run_step(command: Sequence[str], log: Path, limits: Limits, directory: Path | None = None) -> Ended:
    """Run a command to its end, or to its limit.

    Args:
        command: Program and arguments.
        log: Stem of the two files that hold what it prints.
        limits: Its core and its time.
        directory: Where it runs.
    """
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    start = time.perf_counter()
    with out.open("wb") as stdout, err.open("wb") as stderr, _pinned(limits.cpu):
        process = subprocess.Popen(
            list(command),
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,
        )
    try:
        code, peak = _watch(process, start + limits.timeout_s)
    finally:  # also on Ctrl-C, and for children that outlive it
        _kill_group(process.pid)
        process.wait()
    taken = time.perf_counter() - start
    return Ended(code, taken, peak, out.read_text(errors="replace"), err.read_text(errors="replace"))


@contextmanager
def _pinned(cpu: int | None) -> Iterator[None]:
    """Pin this process for a moment: what it starts meanwhile stays pinned."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _watch(process: subprocess.Popen[bytes], until: float) -> tuple[int | None, int]:
    """Wait; gives the exit code (None at the time limit) and the peak memory."""
    peak, timed_out = 0, False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return None if timed_out else process.returncode, max(peak, usage.ru_maxrss * _RSS_UNIT)
        peak = max(peak, _tree_rss(process.pid))
        if time.perf_counter() > until:
            timed_out = True
            _kill_group(process.pid)
        time.sleep(_POLL_S)


def _tree_rss(pid: int) -> int:
    """Resident memory of a process and its descendants; pages that they share count once each."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # it ended since it was listed
            continue
    return total


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:  # all of it has ended
        return
