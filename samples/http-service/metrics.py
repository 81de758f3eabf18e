"""What the service counts, in Prometheus' text format."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from pathlib import Path

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counts since the start; any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: Counter[int] = Counter()
        self._seconds = [0] * (len(_BUCKETS_S) + 1)
        self._sum_s = 0.0
        self._batches = self._inputs = self._warned = 0
        self.in_flight = 0
        self.ready = False

    def count_request(self, code: int, seconds: float | None = None) -> None:
        """A request that was answered; the time of those that the model answered."""
        with self._lock:
            self._codes[code] += 1
            if seconds is not None:
                self._seconds[bisect_left(_BUCKETS_S, seconds)] += 1
                self._sum_s += seconds

    def count_batch(self, inputs: int) -> None:
        """A run of the model."""
        with self._lock:
            self._batches += 1
            self._inputs += inputs

    def count_warning(self) -> None:
        """An answer to an input that is unlike calibration data."""
        with self._lock:
            self._warned += 1

    def text(self) -> str:
        """All of it."""
        with self._lock:
            lines = [
                *_head("edgekit_requests_total", "counter", "Requests to /predict by status."),
                *(f'edgekit_requests_total{{code="{code}"}} {n}' for code, n in sorted(self._codes.items())),
                *_head("edgekit_predict_seconds", "histogram", "From the head of a request to its answer, status 200."),
                *self._histogram(),
                *_value("edgekit_batches_total", "counter", "Runs of the model.", self._batches),
                *_value("edgekit_inputs_total", "counter", "Inputs that those runs held.", self._inputs),
                *_value("edgekit_warned_total", "counter", "Answers with a warning of the guard.", self._warned),
                *_value("edgekit_in_flight", "gauge", "Requests to /predict in work.", self.in_flight),
                *_value("edgekit_ready", "gauge", "1 while requests are taken.", int(self.ready)),
                *_value("edgekit_resident_bytes", "gauge", "Memory of the process.", resident_bytes()),
            ]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        lines, total = [], 0
        for limit, count in zip((*map(str, _BUCKETS_S), "+Inf"), self._seconds, strict=True):
            total += count
            lines.append(f'edgekit_predict_seconds_bucket{{le="{limit}"}} {total}')
        return [*lines, f"edgekit_predict_seconds_sum {self._sum_s:.6f}", f"edgekit_predict_seconds_count {total}"]


def resident_bytes() -> int:
    """The process's memory; 0 where the system does not tell it so."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if told.exists() else 0


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _value(name: str, kind: str, text: str, value: int) -> list[str]:
    return [*_head(name, kind, text), f"{name} {value}"]
