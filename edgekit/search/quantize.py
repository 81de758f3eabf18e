"""`edgekit quantize`: the best file for a target with the proof beside it, or the reason why nothing can be gained."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edgekit.bench import Verdict
from edgekit.compress import TECHNIQUES, ExcludedNode, OnnxStep, StepConfig, StepResult, Target
from edgekit.data.split import Split
from edgekit.errors import CompressError, EdgekitError, unknown
from edgekit.files import check_output, replacing
from edgekit.graph.read import data_files, read_model, refuse_non_finite
from edgekit.progress import note
from edgekit.recipe.model import step_name
from edgekit.search.candidates import Candidate, candidates
from edgekit.search.proof import Judge, Proof
from edgekit.tasks.metrics import Metric

DEFAULT_FLOOR = 0.01  # 1 point of the metric, or 99 % agreement where there are no labels
AUTO = "auto"


@dataclass(frozen=True)
class QuantizeRequest:
    """What is asked for.

    Attributes:
        model: The .onnx file.
        out: The file to write.
        method: "auto", or one method of `edgekit list techniques`.
        calibration: Data that activations may be observed on.
        evaluation: Labelled data to choose by; never the test data that is reported elsewhere.
        metric: What to compute on it.
        max_drop: Largest allowed loss of the metric, in its unit.
        target: Where the result will run.
        threads: For latency.
        seconds: Measuring time of each of a pair.
    """

    model: Path
    out: Path
    method: str = AUTO
    calibration: Split | None = None
    evaluation: Split | None = None
    metric: Metric | None = None
    max_drop: float | None = None
    target: Target = "cpu"
    threads: int | None = None
    seconds: float = 1.0

    @property
    def floor(self) -> float:
        """The loss that is allowed."""
        return self.max_drop if self.max_drop is not None else DEFAULT_FLOOR


@dataclass(frozen=True)
class Attempt:
    """One candidate, tried.

    Attributes:
        method: Its name.
        outcome: "chosen", or why not.
        proof: What was measured; None if it failed.
        result: What the last step said.
    """

    method: str
    outcome: str
    proof: Proof | None = None
    result: StepResult | None = None


@dataclass(frozen=True)
class QuantizeReport:
    """What came of it.

    Attributes:
        status: "ok", or "unchanged" when nothing can be gained; the output is then a copy of the model.
        method: What was applied; "none" if nothing.
        reason: One sentence.
        proof: Size, metric and latency.
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
            "excluded_nodes": [vars(n) for n in self.excluded_nodes],
            "floor_met": self.floor_met,
            "attempts": [
                {"method": a.method, "outcome": a.outcome, **(a.proof.as_dict() if a.proof else {})}
                for a in self.attempts
            ],
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
        }


def quantize_model(request: QuantizeRequest) -> QuantizeReport:
    """Quantise a model and prove what it is worth.

    Raises:
        ModelError: if the model cannot be used, or its weights are not finite.
        DataError: if the data does not fit it.
        CompressError: if the method is unknown or cannot be applied.
        OutputError: if the output is the input, or cannot be written.
    """
    started = time.perf_counter()
    check_output(request.out, request.model)
    chosen = _methods(request)
    refuse_non_finite(read_model(request.model), request.model)
    judge = _judge(request)
    with tempfile.TemporaryDirectory(prefix="edgekit-quantize-") as directory:
        attempts = [_attempt(c, request, judge, Path(directory) / f"{i}.onnx") for i, c in enumerate(chosen)]
        best = _best(attempts, request)
        source = request.model if best is None else Path(directory) / f"{attempts.index(best)}.onnx"
        copy_model(source, request.out)
    return _report(request, judge, attempts, best, started)


def copy_model(source: Path, out: Path) -> None:
    """Copy a model with its external data, atomically."""
    with replacing(out) as temporary:
        for extra in data_files(source):
            shutil.copyfile(extra, temporary.parent / extra.name)
        shutil.copyfile(source, temporary)


def _methods(request: QuantizeRequest) -> list[Candidate]:
    if request.method == AUTO:
        return candidates(request.model, request.target, has_calibration=request.calibration is not None)
    name = f"quantize: {request.method}"
    if name not in TECHNIQUES:
        methods = [t.method for t in TECHNIQUES.values() if t.kind == "quantize"]
        raise CompressError(unknown("method", request.method, [AUTO, *methods]))
    return [Candidate(request.method, (TECHNIQUES[name].config(),))]


def _judge(request: QuantizeRequest) -> Judge:
    return Judge(
        request.model, request.evaluation, request.metric, request.calibration, request.threads, request.seconds
    )


def _attempt(candidate: Candidate, request: QuantizeRequest, judge: Judge, out: Path) -> Attempt:
    """Apply a candidate and measure it; with auto, a failure is an outcome like others, and told."""
    note(f"trying {candidate.name}")
    try:
        result = _apply(candidate.steps, request, out)
        if not result.changed:
            return Attempt(candidate.name, f"nothing to quantise: {result.reason}", None, result)
        proof = judge.proof(out)
    except EdgekitError as error:
        if request.method != AUTO:
            raise
        return Attempt(candidate.name, f"failed: {error}")
    return Attempt(candidate.name, _objection(proof, request) or "good", proof, result)


def _apply(steps: Sequence[StepConfig], request: QuantizeRequest, out: Path) -> StepResult:
    model, result = request.model, StepResult(False, "no step")
    changed = False
    for index, config in enumerate(steps):
        target = out if index == len(steps) - 1 else out.with_suffix(f".{index}.onnx")
        step = OnnxStep(model, target, request.calibration, request.target)
        result = TECHNIQUES[step_name(config)].apply(config, step)
        changed, model = changed or result.changed, target
    return StepResult(changed, result.reason, result.excluded_nodes, result.details)


def _objection(proof: Proof, request: QuantizeRequest) -> str:
    """Why a candidate may not be chosen, or ""."""
    if proof.quality.drop > request.floor:
        return f"loses {proof.quality.drop:.4g} of {proof.quality.name}; at most {request.floor:.4g} is allowed"
    if proof.latency.verdict == Verdict.SLOWER:
        return f"slower than the original ({proof.latency.speedup.ratio:.2f}x)"
    if proof.size_after >= proof.size_before:
        return "not smaller than the original"
    return ""


def _best(attempts: Sequence[Attempt], request: QuantizeRequest) -> Attempt | None:
    """The candidate with the best product of size and time; a method asked for by name is taken as it is."""
    if request.method != AUTO:
        return attempts[0] if attempts[0].proof else None
    good = [a for a in attempts if a.outcome == "good" and a.proof]
    return min(good, key=_cost, default=None)


def _cost(attempt: Attempt) -> float:
    proof = attempt.proof
    return float("inf") if proof is None else 1 / (proof.size_ratio * proof.latency.speedup.ratio)


def _report(
    request: QuantizeRequest, judge: Judge, attempts: list[Attempt], best: Attempt | None, started: float
) -> QuantizeReport:
    if best is None or best.proof is None or best.result is None:
        reason = "; ".join(f"{a.method}: {a.outcome}" for a in attempts) or "no method applies to this graph"
        proof, status, method = judge.proof(request.model), "unchanged", "none"
        excluded: tuple[ExcludedNode, ...] = ()
    else:
        proof, status, method, reason = best.proof, "ok", best.method, best.result.reason
        excluded = best.result.excluded_nodes
    met = None if request.max_drop is None else proof.quality.drop <= request.max_drop
    return QuantizeReport(
        status,
        method,
        reason,
        proof,
        excluded,
        met,
        tuple(attempts),
        time.perf_counter() - started,
        peak_rss_bytes(),
    )


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows keeps it elsewhere, by a name of its own
        return int(psutil.Process().memory_info()._asdict()["peak_wset"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
