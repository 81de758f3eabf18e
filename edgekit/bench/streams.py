"""Several streams at once: what a server does, N callers that each send the next request when the last is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter_ns

Run = Callable[[], object]


@dataclass(frozen=True)
class Load:
    """What all streams did during one turn.

    Attributes:
        taken_ns: One latency a run, of all streams together.
        runs_per_s: Runs a second, the streams' own rates added up.
        wall_ns: From the first start to the last end.
    """

    taken_ns: list[int]
    runs_per_s: float
    wall_ns: int


class Streams:
    """Callers that run at the same time, each in a thread of its own.

    ONNX Runtime releases Python's lock while it runs, so the streams really overlap; what Python does between two runs,
    some microseconds, they do one after the other.

    Args:
        runs: One callable a stream.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(len(self._runs), thread_name_prefix="edgekit-stream")

    def __len__(self) -> int:
        return len(self._runs)

    def __call__(self) -> object:
        """One run of the first stream, alone."""
        return self._runs[0]()

    def load(self, seconds: float) -> Load:
        """Run all streams for so long; the run that each is in then is finished and counted.

        Raises:
            Exception: what a run raises, when all streams have stopped.
        """
        self._stop.clear()
        together = threading.Barrier(len(self._runs))
        futures = [self._threads.submit(self._stream, run, together, int(seconds * 1e9)) for run in self._runs]
        try:
            ends = [future.result() for future in futures]
        except BaseException:
            self._stop.set()
            together.abort()
            raise
        taken = [_differences(clock) for clock in ends]
        rate = sum(1e9 * len(t) / (clock[-1] - clock[0]) for t, clock in zip(taken, ends, strict=True))
        wall = max(clock[-1] for clock in ends) - min(clock[0] for clock in ends)
        return Load([t for each in taken for t in each], rate, wall)

    def _stream(self, run: Run, together: threading.Barrier, limit_ns: int) -> list[int]:
        """The clock at the start and after each run: a stream's latency is all that lies between two answers."""
        together.wait()
        clock = [perf_counter_ns()]
        until = clock[0] + limit_ns
        while True:
            run()
            clock.append(perf_counter_ns())
            if clock[-1] >= until or self._stop.is_set():
                return clock


def _differences(clock: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(clock)]
