"""`edgekit prune model.onnx`: fewer channels with the proof beside it, or the reason why the original is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.bench import compare_latency
from edgekit.compress.prune.graph.plan import Plan, Pruned, Wish, apply_plan, choose_counts, prepare_plan
from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig, prunable_model, result_of
from edgekit.data.split import Split
from edgekit.errors import CompressError
from edgekit.files import check_output
from edgekit.graph.admit import admit_model
from edgekit.graph.normalise import normalise
from edgekit.graph.read import data_files, refuse_non_finite
from edgekit.graph.write import copy_model, save, write_model
from edgekit.machine import peak_rss_bytes
from edgekit.progress import note
from edgekit.search.proof import Judge, Proof, Quality
from edgekit.tasks.metric import Metric

_MOST_FEWER = 16.0  # times fewer multiply-accumulates, at which a search begins
_ROUNDS = 5
_LATENCY_SECONDS = 0.5
_MARGIN = 1.02  # a second measurement may come out a little lower
_MUCH = 0.05  # of a metric to lose


@dataclass(frozen=True)
class PruneRequest:
    """What is asked of `edgekit prune` for an .onnx file.

    Attributes:
        model: The .onnx file.
        out: The file to write.
        config: How to prune; where it names no goal, `latency` or `max_drop` is one.
        data: Calibration data.
        evaluation: Labelled data to judge by.
        test: Data of the same kind that nothing is chosen on.
        metric: What to compute on `evaluation` and `test`.
        max_drop: Largest allowed loss of the metric, in its unit.
        latency: How many times as fast it shall be, measured.
        threads: For latency.
        seconds: Measuring time of each of a pair.
    """

    model: Path
    out: Path
    config: OnnxChannelsConfig
    data: Split | None = None
    evaluation: Split | None = None
    test: Split | None = None
    metric: Metric | None = None
    max_drop: float | None = None
    latency: float | None = None
    threads: int | None = None
    seconds: float = 1.0


@dataclass(frozen=True)
class PruneReport:
    """What came of it.

    Attributes:
        status: "ok", or "unchanged" when the original was kept; the output is then a copy of it.
        reason: One sentence.
        proof: Size, metric and latency of what was tried.
        test: The metric on data that nothing was chosen on; None where none was given.
        pruned: What was removed.
        floor_met: Whether the loss is within what was asked for; None where nothing was asked.
        seconds: All of it.
        peak_rss_bytes: Of this process.
    """

    status: str
    reason: str
    proof: Proof
    test: Quality | None
    pruned: Pruned
    floor_met: bool | None
    seconds: float
    peak_rss_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """`prune --json`."""
        return {
            "status": self.status,
            "method": "channels",
            "reason": self.reason,
            **self.proof.as_dict(),
            "test_metric": self.test.as_dict() if self.test else None,
            "floor_met": self.floor_met,
            **self.pruned.as_dict(),
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
        }


def prune_model(request: PruneRequest) -> PruneReport:
    """Prune an .onnx file and prove what it is worth; what loses too much or gains nothing is not taken.

    Raises:
        ModelError: if the model cannot be used, or its weights are not finite.
        DataError: if the data does not fit it.
        CompressError: if no channel can be removed, or not as many as asked for.
        OutputError: if the output is the input, or cannot be written.
    """
    started = time.perf_counter()
    _refuse_two_goals(request)
    check_output(request.out, request.model, *data_files(request.model))
    wish = request.config.wish(has_data=request.data is not None)
    original = admit_model(request.model)
    refuse_non_finite(original, request.model)
    model = prunable_model(original, str(request.model), unfolded=wish.importance == "bn-scale")
    judge = Judge(request.model, request.evaluation, request.metric, request.data, request.threads, request.seconds)
    for data in (request.data, request.evaluation, request.test):
        if data is not None:
            data.matched(judge.session.inputs)
    if request.data is None:
        note("no calibration data: weights alone decide, and nothing makes good for what goes; --data does both better")
    plan = prepare_plan(model, wish, request.data)
    with tempfile.TemporaryDirectory(prefix="edgekit-prune-") as directory:
        tried = Path(directory) / "pruned.onnx"
        pruned, quality = _pruned(request, plan, wish, judge, tried)
        write_model(normalise(pruned.model), tried, feeds=plan.feeds)
        proof = judge.proof(tried, quality)
        against = _objection(proof, request)
        copy_model(request.model if against else tried, request.out)
        test = _test_quality(request, tried)
    met = None if request.max_drop is None else proof.quality.drop <= request.max_drop
    status = "unchanged" if against else "ok"
    done = f"{result_of(pruned).reason}{_caveat(request, proof.quality)}"
    reason = f"{against}; the original is kept" if against else done
    return PruneReport(status, reason, proof, test, pruned, met, time.perf_counter() - started, peak_rss_bytes())


def _refuse_two_goals(request: PruneRequest) -> None:
    if request.latency is None:
        return
    if request.config.ratio is not None or request.config.macs is not None:
        raise CompressError("--latency is a goal of its own; leave --ratio and --macs out")
    if request.latency <= 1:
        raise CompressError(f"--latency must be above 1, times as fast as the original; got {request.latency}")


def _pruned(request: PruneRequest, plan: Plan, wish: Wish, judge: Judge, file: Path) -> tuple[Pruned, Quality | None]:
    """The pruned model, and its metric where that is known already."""
    if request.latency is not None:
        wish = _as_fast(request, plan, wish, judge, file)
    elif request.max_drop is not None and request.config.ratio is None and request.config.macs is None:
        return _within_drop(request, plan, wish, judge, file)
    return apply_plan(plan, choose_counts(plan, wish), wish, request.data), None


def _as_fast(request: PruneRequest, plan: Plan, wish: Wish, judge: Judge, file: Path) -> Wish:
    """The least pruning that is measured to be as fast as asked; fitted weights do not change the time."""
    wanted = _MARGIN * (request.latency or 1.0)
    feeds = next(iter(judge.unlabelled.batches(judge.session.inputs, 1))).feeds

    def is_fast(trial: Wish) -> bool:
        save(normalise(plan.without(choose_counts(plan, trial))), file)
        found = compare_latency(request.model, file, feeds, threads=request.threads, seconds=_LATENCY_SECONDS)
        note(f"{trial.macs:.2f}x fewer multiply-accumulates: {found.speedup.ratio:.2f}x as fast")
        return found.speedup.ratio >= wanted

    found = _search(plan, wish, is_fast, least=True)
    if found is None:
        raise CompressError(
            f"no pruning was measured to be {request.latency}x as fast; ask for less, or quantise (`edgekit quantize`)"
        )
    return found


def _within_drop(
    request: PruneRequest, plan: Plan, wish: Wish, judge: Judge, file: Path
) -> tuple[Pruned, Quality | None]:
    """The most pruning that keeps the metric."""
    best: list[tuple[Pruned, Quality]] = []

    def keeps(trial: Wish) -> bool:
        pruned = apply_plan(plan, choose_counts(plan, trial), trial, request.data)
        save(normalise(pruned.model), file)
        quality = judge.quality(file)
        note(f"{trial.macs:.2f}x fewer multiply-accumulates: {quality.name} drops by {quality.drop:.4g}")
        good = quality.drop <= (request.max_drop or 0.0)
        if good or not best:
            best[:] = [(pruned, quality)]
        return good

    _search(plan, wish, keeps, least=False)
    return best[0]


def _search(plan: Plan, wish: Wish, holds: Callable[[Wish], bool], *, least: bool) -> Wish | None:
    """Bisect for the least (or most) pruning for which something holds, by factors of multiply-accumulates."""
    low, high, found = 1.0, _MOST_FEWER, None
    for _ in range(_ROUNDS):
        macs = (low * high) ** 0.5
        trial = replace(wish, ratio=None, macs=macs, allocation=_across(wish.allocation))
        try:
            held = holds(trial)
        except CompressError:  # so much cannot be removed
            high = macs
            continue
        found = trial if held else found
        low, high = (low, macs) if held == least else (macs, high)
    return found


def _across(allocation: str) -> str:
    """A share of each layer is no goal in multiply-accumulates."""
    return "global" if allocation == "layer" else allocation


def _objection(proof: Proof, request: PruneRequest) -> str:
    """Why a pruned file is not taken; "" where nothing speaks against it."""
    quality, latency, max_drop = proof.quality, proof.latency, request.max_drop
    if max_drop is not None and quality.drop > max_drop:
        return f"{quality.name} drops by {quality.drop:.4g}, more than {max_drop:.4g}"
    if latency.slower and latency.speedup is not None:
        return f"slower than the original ({latency.speedup:.2f}x as fast)"
    slow = request.latency is not None and latency.ci95 is not None and latency.ci95[1] < request.latency
    if slow and latency.speedup is not None:
        return f"only {latency.speedup:.2f}x as fast when measured again, and {request.latency}x was asked for"
    return "" if proof.size_after < proof.size_before else "not smaller than the original"


def _caveat(request: PruneRequest, quality: Quality) -> str:
    """What a person who set no floor should know."""
    if request.max_drop is not None or quality.loss() <= _MUCH:
        return ""
    cure = "ask for less" if request.data is not None else "give --data, so that layers are fitted, or ask for less"
    return f"; {quality.name} drops by {quality.drop:.4g}: {cure}, and --max-drop refuses such a file"


def _test_quality(request: PruneRequest, tried: Path) -> Quality | None:
    if request.test is None or request.metric is None:
        return None
    return Judge(request.model, request.test, request.metric, threads=request.threads).quality(tried)
