"""`edgekit quantize`: the best file for a target with the proof beside it, or the reason why nothing can be gained."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.compress import ExcludedNode
from edgekit.compress.quantize.static import StaticConfig
from edgekit.errors import BusyError, EdgekitError
from edgekit.files import check_output, digest, locked, make_directory, sha256_of
from edgekit.graph.admit import admit_model
from edgekit.graph.read import data_files, refuse_non_finite
from edgekit.graph.write import copy_model
from edgekit.machine import package_versions, peak_rss_bytes
from edgekit.search.attempt import Attempt, Bench
from edgekit.search.candidates import candidates
from edgekit.search.partial import keep_in_float
from edgekit.search.place import Place, place_of
from edgekit.search.proof import Judge, Proof, Quality
from edgekit.search.request import AUTO, QuantizeRequest
from edgekit.search.shift import warn_of_shift
from edgekit.steps import StepStore

_MUCH_SMALLER = 1.25  # times; int8 kernels make up for less


@dataclass(frozen=True)
class QuantizeReport:
    """What came of it.

    Attributes:
        status: "ok", or "unchanged" when nothing can be gained; the output is then a copy of the model.
        method: What was applied; "none" if nothing.
        reason: One sentence.
        proof: Size, metric and latency.
        test: The metric on data that nothing was chosen on; None where none was given.
        excluded_nodes: What stayed in float.
        floor_met: Whether the loss is within what was asked for; None where nothing was asked.
        attempts: Everything that was tried.
        seconds: All of it.
        peak_rss_bytes: Of this process.
    """

    status: str
    method: str
    reason: str
    proof: Proof
    test: Quality | None
    excluded_nodes: tuple[ExcludedNode, ...]
    floor_met: bool | None
    attempts: tuple[Attempt, ...]
    seconds: float
    peak_rss_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """`quantize --json`."""
        return {
            "status": self.status,
            "method": self.method,
            "reason": self.reason,
            **self.proof.as_dict(),
            "test_metric": self.test.as_dict() if self.test else None,
            "excluded_nodes": [vars(n) for n in self.excluded_nodes],
            "floor_met": self.floor_met,
            "attempts": [a.as_dict() for a in self.attempts],
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
        }


def quantize_model(request: QuantizeRequest) -> QuantizeReport:
    """Quantise a model and prove what it is worth; the best file so far is always at `request.out`.

    Raises:
        ModelError: if the model cannot be used, or its weights are not finite.
        DataError: if the data does not fit it.
        CompressError: if the method is unknown or cannot be applied.
        OutputError: if the output is the input, or cannot be written.
        BusyError: if another edgekit is writing the same output.
    """
    started = time.perf_counter()
    check_output(request.out, request.model, *data_files(request.model))
    refuse_non_finite(admit_model(request.model), request.model)
    warn_of_shift(request.calibration, request.evaluation)
    judge = Judge(
        request.model,
        request.evaluation,
        request.metric,
        request.calibration,
        request.threads,
        request.seconds,
        place_of(request.target),
    )
    for data in (request.calibration, request.evaluation, request.test):
        if data is not None:
            data.matched(judge.session.inputs)
    chosen = candidates(request, is_language_model=judge.is_language_model)
    with _workplace(request) as work:
        bench = Bench(request, judge, StepStore(work), _key(request))
        attempts = _try_all(bench, chosen)
        best = _best(attempts, request)
        proof = (
            best.proof if best and best.proof else judge.proof(request.model)
        )  # may fail: before anything is written
        copy_model(best.file if best and best.file else request.model, request.out)
    return _report(request, judge.place, proof, attempts, best, started)


def _try_all(bench: Bench, chosen: Sequence[Any]) -> list[Attempt]:
    attempts: list[Attempt] = []
    for candidate in chosen:
        if candidate.fallback and any(a.good for a in attempts):
            continue
        attempt = bench.attempt(candidate)
        if attempt.lost_accuracy and isinstance(candidate.steps[0], StaticConfig):
            attempt = keep_in_float(bench, attempt) or attempt
        _keep(bench, attempts, attempt)
        integers = bench.on_integers(attempt) if _may_change_form(attempt, bench.request) else None
        if integers is not None:
            _keep(bench, attempts, integers)
    return attempts


def _keep(bench: Bench, attempts: list[Attempt], attempt: Attempt) -> None:
    """Add an attempt; the best so far is at the output."""
    attempts.append(attempt)
    if attempt.good and attempt.file and attempt is _best(attempts, bench.request):
        copy_model(attempt.file, bench.request.out)


def _may_change_form(attempt: Attempt, request: QuantizeRequest) -> bool:
    static = isinstance(attempt.candidate.steps[0], StaticConfig)
    return request.method == AUTO and attempt.good and static


def _likely_fast(good: list[Attempt]) -> list[Attempt]:
    """Where latency could not be measured, those that compute on integers, unless others are much smaller."""
    if any(a.proof and a.proof.latency.speedup is not None for a in good):
        return good
    smallest = max(map(_gain, good))
    return [a for a in good if a.runs_int8 and _MUCH_SMALLER * _gain(a) >= smallest] or good


def _gain(attempt: Attempt) -> float:
    return attempt.proof.gain if attempt.proof else 0.0


def _best(attempts: Sequence[Attempt], request: QuantizeRequest) -> Attempt | None:
    """The greatest product of smaller and faster among the good ones.

    A method asked for by name is taken as it is. Where a floor was asked for and nothing keeps it, the attempt that
    loses least is kept.
    """
    measured = [a for a in attempts if a.proof and a.file]
    if request.method != AUTO:
        return measured[0] if measured else None
    good = [a for a in measured if a.good]
    if good:
        return max(_likely_fast(good), key=_gain)
    lost = [a for a in measured if a.lost_accuracy]
    if request.max_drop is not None and lost:
        return min(lost, key=lambda a: a.proof.quality.drop if a.proof else float("inf"))
    return None


def _report(
    request: QuantizeRequest, place: Place, proof: Proof, attempts: list[Attempt], best: Attempt | None, started: float
) -> QuantizeReport:
    if best is None or best.proof is None:
        reason = "; ".join(f"{a.candidate.name}: {a.outcome}" for a in attempts)
        if request.calibration is None and request.evaluation is None and any(a.lost_accuracy for a in attempts):
            reason += "; judged on generated inputs, real ones (--calibration DATA) may tell otherwise"
        status, method = "unchanged", "none"
    else:
        status, method, reason = "ok", best.candidate.name, best.reason
    met = None if request.max_drop is None else proof.quality.drop <= request.max_drop
    return QuantizeReport(
        status=status,
        method=method,
        reason="; ".join(filter(None, [reason, place.said])),
        proof=proof,
        test=_test_quality(request),
        excluded_nodes=best.excluded if best else (),
        floor_met=met,
        attempts=tuple(attempts),
        seconds=time.perf_counter() - started,
        peak_rss_bytes=peak_rss_bytes(),
    )


def _test_quality(request: QuantizeRequest) -> Quality | None:
    if request.test is None or request.metric is None:
        return None
    return Judge(request.model, request.test, request.metric, threads=request.threads).quality(request.out)


@contextmanager
def _workplace(request: QuantizeRequest) -> Iterator[Path]:
    """A directory beside the output for what was tried: gone when the work is done, kept when it is not."""
    work = make_directory(request.out.parent / f".{request.out.name}.edgekit")
    try:
        with locked(work):
            yield work
    except BusyError:
        raise
    except EdgekitError:  # the same command would fail the same way: nothing to go on from
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)


def _key(request: QuantizeRequest) -> str:
    """Changes with everything that changes what the attempts find."""
    data = [None if s is None else _fingerprint(s.arrays, s.labels) for s in (request.calibration, request.evaluation)]
    metric = request.metric.name if request.metric else None
    return digest([sha256_of(request.model), data, metric, request.target, request.threads, package_versions()])


def _fingerprint(arrays: Any, labels: Any) -> str:
    import hashlib

    found = hashlib.sha256()
    for name, array in {**arrays, "labels": labels}.items():
        if array is not None:
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            plain = np.ascontiguousarray(array).reshape(-1)
            found.update(str(plain.tolist()).encode() if array.dtype.hasobject else plain.view(np.uint8).data)
    return found.hexdigest()
