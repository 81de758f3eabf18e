"""The session options under which a model does best on this machine, as few of them as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from edgekit import machine
from edgekit.bench.cold import cold_start
from edgekit.bench.compare import Speedup, Verdict, measure_pair, runner, verdict
from edgekit.bench.engine import engine_of
from edgekit.bench.inputs import BenchInputs
from edgekit.bench.measure import Samples
from edgekit.bench.noise import disturbances, look
from edgekit.bench.records import BenchRequest, ColdStart
from edgekit.bench.streams import Run, Streams
from edgekit.errors import ModelError
from edgekit.files import sha256_of
from edgekit.graph.read import size_bytes
from edgekit.ort import Session, SessionOptions
from edgekit.progress import advancing

_SHORTEST_S, _LONGEST_S = 0.1, 2.0
_SEARCHING = 0.7  # the share of the time after which no further setting is tried
_COST = 6  # a trial takes about this many times the least time of one side, warm-up included
_PROOF = 3  # the last measurement is this many times as long as a trial


class Objective(StrEnum):
    """What is to become shorter or more."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    SESSION_MS = "session_ms"


@dataclass(frozen=True)
class Change:
    """One setting that may help.

    Attributes:
        title: For people.
        settings: Fields of SessionOptions and their new values.
    """

    title: str
    settings: Mapping[str, Any]

    def applied_to(self, options: SessionOptions) -> SessionOptions:
        """The options with this change; config entries are added to those that are there."""
        entries = {**options.config_entries, **self.settings.get("config_entries", {})}
        return replace(options, **{**self.settings, "config_entries": entries})

    def undone_in(self, options: SessionOptions) -> SessionOptions:
        """The options with the defaults where this change is."""
        defaults = {name: getattr(SessionOptions(), name) for name in self.settings}
        own = self.settings.get("config_entries", {})
        entries = {key: value for key, value in options.config_entries.items() if key not in own}
        return replace(options, **{**defaults, "config_entries": entries})


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
    model: Path, request: BenchRequest, *, objective: Objective = Objective.LATENCY, seconds: float = 45.0
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

    Raises:
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
    try:
        _search(_Bench(model, request, report, cold), candidates(request, objective), seconds)
    except KeyboardInterrupt:
        report.complete = False
        raise TuneInterrupted(report) from None
    report.notes += disturbances(before, look())
    if objective is Objective.SESSION_MS and report.gained:
        report.notes.append("a session starts sooner so, but its runs may take longer: measure with --session-options")
    return report


def candidates(request: BenchRequest, objective: Objective) -> list[Change]:
    """The settings that are tried, those that usually matter most first."""
    cores = machine.available_cores()
    fewer = [] if request.threads is not None else sorted({1, 2, 4, 8, 16, 32, cores // 2} - {0})
    found = [Change(f"{n} thread{'s'[: n > 1]}", {"threads": n}) for n in reversed(fewer) if n < cores]
    if objective is not Objective.SESSION_MS:
        found.append(_entry("no spinning", "session.intra_op.allow_spinning", "0"))
    levels = ("ORT_ENABLE_LAYOUT", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_BASIC", "ORT_DISABLE_ALL")
    found += [Change(f"graph {name.split('_', 1)[1].lower()}", {"graph_optimization_level": name}) for name in levels]
    found.append(_entry("no prepacking", "session.disable_prepacking", "1"))
    if objective is not Objective.SESSION_MS:
        if cores > 1:
            side_by_side = {"execution_mode": "ORT_PARALLEL", "inter_op_num_threads": cores}
            found.append(Change("nodes side by side", side_by_side))
        found.append(_entry("dynamic block base 4", "session.dynamic_block_base", "4"))
        found.append(Change("no memory arena", {"enable_cpu_mem_arena": False}))
        found.append(Change("no memory pattern", {"enable_mem_pattern": False}))
    return found


def _entry(title: str, key: str, value: str) -> Change:
    return Change(title, {"config_entries": {key: value}})


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
        inputs = BenchInputs(self.request.shapes, self.request.feeds, self.request.seed, self.cold.vocabularies)
        feeds = inputs.feeds(session.inputs, self.report.batch)
        run = runner(session, feeds, streams=streams, bound=self.cold.io_binding)
        return Streams([run] * streams) if streams > 1 else run

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
            if _better(bench, change, each_s):
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
