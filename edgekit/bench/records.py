"""What is asked of a benchmark and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from edgekit.bench.device import NO_DEVICE, DeviceMemoryUse
from edgekit.bench.energy import NOT_MEASURED, Energy
from edgekit.bench.measure import Plan, Samples
from edgekit.bench.statistics import Interval, Latency, median_interval
from edgekit.errors import ModelError
from edgekit.machine import available_cores
from edgekit.ort.engines import Engine
from edgekit.ort.execution import Execution, check_device
from edgekit.ort.options import SessionOptions
from edgekit.ort.providers import find_provider, require_provider
from edgekit.ort.tensorrt import ShapeRanges
from edgekit.specs import Feeds

MOST_STREAMS = 256  # each is a thread
# Of the JSON of a report; raised when a key that `--against` reads changes its meaning.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BenchRequest:
    """What to measure and for how long.

    Attributes:
        providers: Short names; each is measured strictly, none falls back.
        batches: Batch sizes; empty means the one that the model fixes, or 1.
        threads: Intra-op threads of a session; None means all cores that this process may use.
        streams: Callers at the same time; each number is a row of its own.
        session_per_stream: Whether each stream has a session of its own, or all share one.
        shapes: Whole shapes by input name, for what the model leaves open beyond the batch.
        feeds: Real values, one array an input; axis 0 is repeated or cut to the batch.
        min_seconds: Least time of recorded runs, for each row.
        min_runs: Least number of recorded runs, for each row; 44 are needed to tell p90.
        max_seconds: A slow row stops after this, although `min_runs` is not reached.
        warmup_seconds: Most time of warm-up, for each row.
        seed: Of generated inputs.
        compare: Whether to measure longer, up to four times, where a verdict against the first model is not settled.
        tuned: Session options of a tuned file; `threads`, where given, wins over theirs.
        keep_trace: Whether each cold start keeps ONNX Runtime's trace of its runs.
        timeout_s: A cold start, or a run, that takes longer is given up.
        guard: Whether the measuring loop has a process of its own, so that a model that crashes or hangs there is
            reported; without, it starts sooner.
        execution: Device, strictness and options of the providers.
        engine_shapes: Range of an input's shapes, by name, of what is built for shapes; the rest covers all batches.
        io_binding: Whether inputs and outputs stay on the device; None means where the device has memory of its own.
    """

    providers: tuple[str, ...] = ("cpu",)
    batches: tuple[int, ...] = ()
    threads: int | None = None
    streams: tuple[int, ...] = (1,)
    session_per_stream: bool = False
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    feeds: Feeds | None = None
    min_seconds: float = 2.0
    min_runs: int = 44
    max_seconds: float = 60.0
    warmup_seconds: float = 1.0
    seed: int = 0
    timeout_s: float = 600.0
    tuned: SessionOptions | None = None
    keep_trace: bool = False
    compare: bool = False
    guard: bool = True
    execution: Execution = field(default_factory=Execution)
    engine_shapes: ShapeRanges = field(default_factory=dict)
    io_binding: bool | None = None

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is loaded.

        Raises:
            ProviderError: for a provider that is unknown or not in the installed ONNX Runtime.
            ModelError: for a batch, a number of threads or a time below its least value.
        """
        for name in self.providers:
            find_provider(name) if self.execution.allow_fallback else require_provider(name)
        self._check_device()
        bad = [b for b in self.batches if b < 1]
        if bad:
            raise ModelError(f"batch {bad[0]} cannot be measured; a batch has at least 1 sample")
        if not self.streams or min(self.streams) < 1:
            raise ModelError(f"{min(self.streams, default=0)} streams cannot run anything; give at least 1")
        if max(self.streams) > MOST_STREAMS:
            raise ModelError(f"{max(self.streams)} streams are too many; give at most {MOST_STREAMS}")
        if self.threads is not None and self.threads < 1:
            raise ModelError(f"{self.threads} threads cannot run anything; give 1 to {available_cores()}")
        if min(self.min_seconds, self.min_runs, self.max_seconds, self.timeout_s) <= 0:
            raise ModelError("seconds and runs of a benchmark must be above 0")

    def _check_device(self) -> None:
        """A device is for the providers that have a choice; at least one of them must."""
        choosers = [p for p in map(find_provider, self.providers) if p.device_options]
        for provider in choosers or [find_provider(self.providers[0])]:
            check_device(provider, self.execution.device)

    def execution_on(self, provider: str, engine: Engine | None = None) -> Execution:
        """What is asked of one provider: the device only where it has a choice, its engine where it built one."""
        asked = self.execution
        device = asked.device if find_provider(provider).device_options else None
        options = {**(engine.options if engine else {}), **asked.options}
        return replace(asked, device=device, options=options)

    @property
    def thread_count(self) -> int:
        """The threads that will be used."""
        tuned = self.tuned.threads if self.tuned is not None else None
        return self.threads or tuned or available_cores()

    @property
    def plan(self) -> Plan:
        """When each row is long enough."""
        return Plan(self.min_seconds, self.min_runs, self.max_seconds, self.warmup_seconds)


@dataclass(frozen=True)
class Placement:
    """What one provider ran.

    Attributes:
        nodes: Nodes of the optimised graph, those of subgraphs that ran included.
        time_share: Their share of the time of all nodes, 0 to 1.
    """

    nodes: int
    time_share: float


@dataclass(frozen=True)
class OperatorTime:
    """What the nodes of one operator take together, as a share of the time of all nodes."""

    op_type: str
    provider: str
    nodes: int
    time_share: float


@dataclass(frozen=True)
class ColdStart:
    """What a process that starts from nothing sees.

    Attributes:
        batch: The batch that was run.
        session_ms: Creation of the session, with graph optimisation, without Python's imports and engine builds.
        first_run_ms: The first run, with lazy allocations and kernel selection.
        baseline_rss_bytes: Peak resident memory before the session: Python and the libraries.
        load_rss_bytes: Peak after the session was created.
        peak_rss_bytes: Peak after the first runs, when arenas have grown to what the model takes.
        memcpy_nodes: Copies between devices in the graph that ran.
        operators: The operators by the time they take, largest first.
        inputs: Type and shape of each input.
        vocabularies: How many ids there are, by input name, where the model tells.
        trace: The events of ONNX Runtime's profile, for chrome://tracing; empty unless it was asked for.
        assigned: Nodes of the graph by provider, before they are fused; empty where ONNX Runtime does not tell.
        strays: Nodes by operator that the CPU runs although another provider was asked for.
        fallback: Whether the provider that was asked for runs none of the nodes.
        io_binding: Whether inputs and outputs stay on the device in the steady runs.
        device_memory: Most that was taken on the device.
        engine: What was built for the provider before; None where nothing is.
    """

    batch: int
    session_ms: float
    first_run_ms: float
    baseline_rss_bytes: int
    load_rss_bytes: int
    peak_rss_bytes: int
    providers_used: tuple[str, ...]
    placement: Mapping[str, Placement]
    memcpy_nodes: int
    operators: tuple[OperatorTime, ...]
    inputs: Mapping[str, str]
    trace: tuple[Mapping[str, Any], ...] = ()
    vocabularies: Mapping[str, int] = field(default_factory=dict)
    assigned: Mapping[str, int] = field(default_factory=dict)
    strays: Mapping[str, int] = field(default_factory=dict)
    fallback: bool = False
    io_binding: bool = False
    device_memory: DeviceMemoryUse = NO_DEVICE
    engine: Engine | None = None


class Setting(NamedTuple):
    """How a model was run; rows of one setting can be compared.

    >>> str(Setting("cpu", 8, 2, 4))
    'cpu, batch 8, 4 streams'
    """

    provider: str
    batch: int
    threads: int
    streams: int

    def __str__(self) -> str:
        return f"{self.provider}, batch {self.batch}" + (f", {self.streams} streams" if self.streams > 1 else "")


@dataclass(frozen=True)
class BenchRow:
    """One model on one provider at one batch size, for one number of streams.

    Attributes:
        threads: Intra-op threads of a session.
        streams: Callers at the same time; the latency of each is then measured under the load of all.
        sessions: How many sessions they share.
        options: The session options that were asked for; `threads` is what came of theirs.
    """

    model: str
    provider: str
    threads: int
    cold: ColdStart
    latency_ms: Latency
    size_bytes: int
    samples: Samples
    input_source: str
    notes: tuple[str, ...] = ()
    streams: int = 1
    sessions: int = 1
    energy: Energy = NOT_MEASURED
    options: SessionOptions = field(default_factory=SessionOptions)

    @property
    def batch(self) -> int:
        """Samples in one run."""
        return self.cold.batch

    @property
    def setting(self) -> Setting:
        """How it was run."""
        return Setting(self.provider, self.batch, self.threads, self.streams)

    @property
    def throughput_per_s(self) -> float:
        """Samples a second: of one stream at the median latency, of several as they were counted together."""
        if self.streams == 1:
            return 1000 * self.batch / self.latency_ms.p50
        return self.batch * float(np.median(self.samples.runs_per_s))

    @property
    def throughput_ci95(self) -> Interval | None:
        """Its 95 % interval; None with too few rounds."""
        if self.streams == 1:
            bounds = self.latency_ms.ci95_p50
            return bounds and (1000 * self.batch / bounds[1], 1000 * self.batch / bounds[0])
        bounds = median_interval(self.samples.runs_per_s)
        return bounds and (self.batch * bounds[0], self.batch * bounds[1])

    def as_dict(self, *, samples: bool = False) -> dict[str, Any]:
        """A row of `bench --json`; with `samples`, every recorded latency too."""
        cold = self.cold
        row: dict[str, Any] = {
            "model": self.model,
            "provider": self.provider,
            "providers_used": list(cold.providers_used),
            "placement": {name: vars(p) for name, p in cold.placement.items()},
            "fallback": cold.fallback,
            "assigned_nodes": dict(cold.assigned),
            "memcpy_nodes": cold.memcpy_nodes,
            "operators": [vars(o) for o in cold.operators],
            "batch": self.batch,
            "threads": self.threads,
            "streams": self.streams,
            "sessions": self.sessions,
            "session_options": self.options.settings(),
            "n": self.samples.n,
            "latency_ms": self.latency_ms.as_dict(),
            "throughput_per_s": self.throughput_per_s,
            "throughput_ci95": None if self.throughput_ci95 is None else list(self.throughput_ci95),
            "session_ms": cold.session_ms,
            "first_run_ms": cold.first_run_ms,
            "peak_rss_bytes": cold.peak_rss_bytes,
            "load_rss_bytes": cold.load_rss_bytes,
            "baseline_rss_bytes": cold.baseline_rss_bytes,
            "device_memory": vars(cold.device_memory),
            "io_binding": cold.io_binding,
            **(cold.engine.as_dict() if cold.engine else {}),
            "energy": vars(self.energy),
            "size_bytes": self.size_bytes,
            "inputs": dict(cold.inputs),
            "input_source": self.input_source,
            "notes": list(self.notes),
        }
        if samples:
            row |= {"samples_ms": self.samples.ms.tolist(), "samples_round": self.samples.rounds.tolist()}
        return row


@dataclass(frozen=True)
class BenchReport:
    """Every row, and once what holds for all of them.

    Attributes:
        rows: In the order of providers, models, batches.
        machine: What the machine is.
        notes: What disturbed the measurement, and what was asked for beyond reason.
        complete: False when the user stopped it; the rows then hold what was recorded until then.
    """

    rows: tuple[BenchRow, ...]
    machine: Mapping[str, object]
    notes: tuple[str, ...] = ()
    complete: bool = True

    def as_dict(self, *, samples: bool = False) -> dict[str, Any]:
        """What JSON holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "rows": [row.as_dict(samples=samples) for row in self.rows],
            "machine": dict(self.machine),
            "notes": list(self.notes),
            "complete": self.complete,
        }


class BenchInterrupted(KeyboardInterrupt):
    """The user stopped a benchmark; `report` holds what was measured until then."""

    def __init__(self, report: BenchReport) -> None:
        super().__init__("benchmark interrupted")
        self.report = report
