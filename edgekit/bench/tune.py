"""The session options under which a model does best on this machine, as few of them as it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from edgekit import machine
from edgekit.bench.candidates import Change, Objective, candidates
from edgekit.bench.cold import cold_start
from edgekit.bench.compare import Speedup, Verdict, measure_pair, runner, verdict
from edgekit.bench.engine import engine_of
from edgekit.bench.inputs import BenchInputs
from edgekit.bench.measure import Samples
from edgekit.bench.noise import disturbances, look
from edgekit.bench.optimized import OptimizedFile, keep_optimized, save_optimized
from edgekit.bench.records import BenchRequest, ColdStart
from edgekit.bench.streams import Run, Streams
from edgekit.errors import ModelError
from edgekit.files import sha256_of
from edgekit.graph.read import size_bytes
from edgekit.ort import Session, SessionOptions
from edgekit.progress import advancing
from edgekit.specs import Array

_SHORTEST_S, _LONGEST_S = 0.1, 2.0
_SEARCHING = 0.7  # the share of the time after which no further setting is tried
_COST = 6  # a trial takes about this many times the least time of one side, warm-up included
_PROOF = 3  # the last measurement is this many times as long as a trial


@dataclass(frozen=True)
class Trial:
    """One setting against the best until then, or what was found against the defaults.

    Attributes:
        title: What was tried.
        before_ms: Median of the best until then.
        after_ms: Median with the setting.
        kept: Whether the setting stays.
    """

    title: str
    before_ms: float
    after_ms: float
    speedup: Speedup
    verdict: Verdict
    kept: bool

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        interval = self.speedup.ci95
        return {
            **vars(self),
            "speedup": self.speedup.ratio,
            "ci95": None if interval is None else list(interval),
            "verdict": str(self.verdict),
        }


@dataclass
class TuneReport:
    """What was found; it grows while it is searched for, so that an interruption loses nothing.

    Attributes:
        options: The best session options; empty where no setting helps.
        proof: The options against the defaults on new sessions, after the search; None where there is nothing to prove,
            or an interruption came first.
        optimized: The optimised file among the options, where one was kept.
        complete: False when the user stopped it.
    """

    model: str
    model_sha256: str
    provider: str
    batch: int
    streams: int
    objective: Objective
    threads: int
    machine: Mapping[str, object]
    options: SessionOptions = field(default_factory=SessionOptions)
    proof: Trial | None = None
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    optimized: OptimizedFile | None = None
    complete: bool = True

    @property
    def gained(self) -> bool:
        """Whether the options are faster than the defaults, and that was proven."""
        return self.proof is not None and self.proof.kept

    @property
    def verdict(self) -> Verdict:
        """Of `options` against the defaults; where these stay, the proof may still have been too noisy to tell."""
        if self.proof is None or self.proof.verdict is Verdict.SLOWER:
            return Verdict.NO_DIFFERENCE
        return self.proof.verdict

    def as_dict(self) -> dict[str, Any]:
        """The tuned file, and what JSON holds; the speed-up is the proof's."""
        proof = self.proof.as_dict() if self.proof is not None else {}
        return {
            **self.options.as_dict(),
            "optimized_model": None if self.optimized is None else self.optimized.model_dump(),
            "speedup": proof.get("speedup") if self.gained else None,
            "ci95": proof.get("ci95") if self.gained else None,
            "verdict": str(self.verdict) if self.complete else None,
            "objective": str(self.objective),
            "proof": proof or None,
            "trials": [trial.as_dict() for trial in self.trials],
            "model": self.model,
            "model_sha256": self.model_sha256,
            "provider": self.provider,
            "batch": self.batch,
            "streams": self.streams,
            "default_threads": self.threads,
            "machine": dict(self.machine),
            "notes": self.notes,
            "complete": self.complete,
        }


class TuneInterrupted(KeyboardInterrupt):
    """The user stopped the search; `report` holds the best until then."""

    def __init__(self, report: TuneReport) -> None:
        super().__init__("tuning interrupted")
        self.report = report


def tune(
    model: Path,
    request: BenchRequest,
    *,
    objective: Objective = Objective.LATENCY,
    seconds: float = 45.0,
    optimized: Path | None = None,
) -> TuneReport:
    """Search the session options under which a model does best, setting by setting.

    A setting is kept only where it is FASTER than the best until then, measured in turns; what is found is then
    measured against the defaults on new sessions, and given up where it is not FASTER there.

    Args:
        model: Path of an .onnx file.
        request: One provider, at most one batch, and threads, which are not searched where they are given; for
            throughput the streams, by default as many as cores.
        objective: What counts.
        seconds: About how long it may take.
        optimized: For session_ms on the CPU, where to keep the model as ONNX Runtime optimised it, if that is proven
            to help; not tried where it is not given.

    Raises:
        OutputError: if the optimised file cannot be written.
        ModelError: if the model does not load, crashes, hangs, or does not take the batch or the shapes, and for a
            request of more than one provider, batch or number of streams.
        ProviderError: if the provider is not there.
        TuneInterrupted: when the user stops it.
    """
    request.check()
    _check(request, seconds)
    size_bytes(model)
    provider = request.providers[0]
    batch = request.batches[0] if request.batches else None
    cold = cold_start(model, provider, batch, request, engine_of(model, provider, request))
    streams = request.streams[0]
    if objective is Objective.THROUGHPUT and streams == 1:
        streams = machine.available_cores()
    report = TuneReport(
        str(model), sha256_of(model), provider, cold.batch, streams, objective, request.thread_count, machine.facts()
    )
    before = look()
    with tempfile.TemporaryDirectory(prefix="edgekit-optimized-") as staging:
        try:
            bench = _Bench(model, request, report, cold)
            first = _optimised(bench, Path(staging) / "optimized.onnx", optimized)
            _search(bench, [*first, *candidates(request, objective)], seconds)
            _keep(report, model, optimized)
        except KeyboardInterrupt:
            report.complete = False
            raise TuneInterrupted(report) from None
        finally:
            _drop_unproven(report)
    report.notes += disturbances(before, look())
    if objective is Objective.SESSION_MS and replace(report.options, optimized_model=None) != SessionOptions():
        report.notes.append("a session starts sooner so, but its runs may take longer: measure with --session-options")
    return report


def _optimised(bench: _Bench, draft: Path, wanted: Path | None) -> list[Change]:
    """The model as ONNX Runtime optimised it, as one more setting; none where it does not apply or cannot be had."""
    report = bench.report
    if report.objective is not Objective.SESSION_MS:
        return []
    if wanted is None or report.provider != "cpu":
        report.notes.append("an optimised model file was not tried: that takes --out, to keep it, and the provider cpu")
        return []
    try:
        save_optimized(bench.model, draft, threads=bench.request.thread_count, feeds=bench.feeds)
    except ModelError as error:
        report.notes.append(f"optimised model file: {error}")
        return []
    return [Change("optimised model file", {"optimized_model": str(draft)})]


def _keep(report: TuneReport, model: Path, place: Path | None) -> None:
    draft = report.options.optimized_model
    if draft is None or place is None or not report.gained:
        return
    report.optimized = keep_optimized(Path(draft), model, place)
    report.options = replace(report.options, optimized_model=str(place))


def _drop_unproven(report: TuneReport) -> None:
    """Take an optimised file that was not kept out of the options: it goes with its directory."""
    if report.options.optimized_model is not None and report.optimized is None:
        report.options = replace(report.options, optimized_model=None)
        report.notes.append("the optimised model file was not proven and is not kept")


def _check(request: BenchRequest, seconds: float) -> None:
    asked = {"provider": request.providers, "batch": request.batches, "number of streams": request.streams}
    for name, values in asked.items():
        if len(values) > 1:
            raise ModelError(f"tuning takes one {name}, got {len(values)}; run it once for each")
    if not 0 < seconds < float("inf"):
        raise ModelError(f"tuning for {seconds} seconds cannot be done; give a number above 0")


@dataclass(frozen=True)
class _Bench:
    """What is measured, for the report that grows."""

    model: Path
    request: BenchRequest
    report: TuneReport
    cold: ColdStart

    def compare(self, title: str, before: SessionOptions, after: SessionOptions, seconds: float) -> Trial:
        """Two sets of options in turns; a trial that is not kept yet."""
        both = {"before": before, "after": after}

        def prepare(backwards: bool) -> dict[str, Run]:
            return {name: self._run(both[name]) for name in (reversed(both) if backwards else both)}

        first, second, gain = measure_pair(prepare, seconds, self._reading)
        before_ms, after_ms = (float(np.median(self._reading(samples).ms)) for samples in (first, second))
        return Trial(title, before_ms, after_ms, gain, verdict(gain), kept=False)

    def _session(self, options: SessionOptions) -> Session:
        threads = options.threads or self.request.thread_count
        execution = self.request.execution_on(self.report.provider, self.cold.engine)
        return Session(self.model, self.report.provider, threads=threads, tuned=options, execution=execution)

    def _run(self, options: SessionOptions) -> Run:
        if self.report.objective is Objective.SESSION_MS:
            return lambda: self._session(options)
        session, streams = self._session(options), self.report.streams
        run = runner(session, self.feeds(session), streams=streams, bound=self.cold.io_binding)
        return Streams([run] * streams) if streams > 1 else run

    def feeds(self, session: Session) -> dict[str, Array]:
        """What every session is run on."""
        inputs = BenchInputs(self.request.shapes, self.request.feeds, self.request.seed, self.cold.vocabularies)
        return inputs.feeds(session.inputs, self.report.batch)

    def _reading(self, samples: Samples) -> Samples:
        """Latencies; for throughput, the time that each round took for one run."""
        if self.report.objective is not Objective.THROUGHPUT or not len(samples.runs_per_s):
            return samples
        return Samples(1000 / samples.runs_per_s, np.unique(samples.rounds))


def _search(bench: _Bench, changes: Sequence[Change], seconds: float) -> None:
    """Fill the report: try each change, take back what is not needed, prove what is left."""
    report, start = bench.report, monotonic()
    each_s = max(_SHORTEST_S, min(_LONGEST_S, seconds / (_COST * (len(changes) + _PROOF))))
    kept: list[Change] = []
    with advancing(f"tuning {bench.model.name}", len(changes) + 1) as show:
        for number, change in enumerate(changes):
            if monotonic() - start > _SEARCHING * seconds:
                report.notes.append(f"the time was up: {len(changes) - number} of {len(changes)} settings not tried")
                break
            if change.matters_to(report.options) and _better(bench, change, each_s):
                kept = [c for c in kept if not c.settings.keys() & change.settings.keys() - {"config_entries"}]
                kept.append(change)
            show(number + 1)
        for change in _unneeded(kept):
            _take_back(bench, change, each_s)
        _prove(bench, _PROOF * each_s)


def _better(bench: _Bench, change: Change, seconds: float) -> bool:
    report = bench.report
    wanted = change.applied_to(report.options)
    trial = _tried(lambda: bench.compare(change.title, report.options, wanted, seconds), report, change)
    if trial is None:
        return False
    better = trial.verdict is Verdict.FASTER
    report.trials.append(replace(trial, kept=better))
    if better:
        report.options = wanted
    return better


def _tried(measure: Callable[[], Trial], report: TuneReport, change: Change) -> Trial | None:
    """A setting under which the model does not load or run is no error: it is not an option."""
    try:
        return measure()
    except ModelError as error:
        report.notes.append(f"{change.title}: {error}")
        return None


def _unneeded(kept: Sequence[Change]) -> Iterator[Change]:
    """The changes that a later one may have made pointless: all but the last."""
    yield from kept[:-1]


def _take_back(bench: _Bench, change: Change, seconds: float) -> None:
    """Without the change, where that is no slower: fewest changes win."""
    report = bench.report
    without = change.undone_in(report.options)
    trial = bench.compare(f"without {change.title}", report.options, without, seconds)
    needless = trial.verdict in (Verdict.FASTER, Verdict.NO_DIFFERENCE)
    report.trials.append(replace(trial, kept=needless))
    if needless:
        report.options = without


def _prove(bench: _Bench, seconds: float) -> None:
    """The best against the defaults once more: the best of many trials looks better than it is."""
    report = bench.report
    if report.options == SessionOptions():
        return
    trial = bench.compare("proof: defaults against what was kept", SessionOptions(), report.options, seconds)
    report.proof = replace(trial, kept=trial.verdict is Verdict.FASTER)
    if not report.proof.kept:
        report.notes.append(f"what the trials found is {trial.verdict} against the defaults; the defaults stay")
        report.options = SessionOptions()
