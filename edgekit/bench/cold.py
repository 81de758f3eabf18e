"""The cold start of a model, in a process of its own: time, memory, and where each node runs.

The child is also the first to load a file, so that one that crashes or hangs is reported in one line.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from edgekit.bench.device import DeviceMemoryMeter, DeviceMemoryUse
from edgekit.bench.inputs import BenchInputs, describe_feeds
from edgekit.bench.question import ask, question_of
from edgekit.bench.records import BenchRequest, ColdStart, OperatorTime, Placement
from edgekit.errors import ProviderError
from edgekit.machine import peak_rss_bytes
from edgekit.ort import Execution, Node, Session, SessionOptions, assigned_nodes, find_provider, require_ort
from edgekit.ort.archive import archived, unarchived
from edgekit.ort.binding import can_bind, device_memory
from edgekit.ort.child import answer_parent, limit_memory
from edgekit.ort.engines import Engine
from edgekit.ort.execution import RECORD_PLACEMENT
from edgekit.ort.providers import short_name
from edgekit.specs import Feeds

_SETTLE_RUNS = 10
_SETTLE_S = 0.5
_PROFILE_RUNS = 20
_PROFILE_S = 0.5
Event = Mapping[str, Any]


def cold_start(
    model: Path, provider: str, batch: int | None, request: BenchRequest, engine: Engine | None = None
) -> ColdStart:
    """Load and run a model once in a fresh process, then profile it there.

    Args:
        model: The file.
        provider: Short name.
        batch: None means the batch that the model fixes, or 1.
        request: Threads, shapes, data, seed, device, strictness and the time limit.
        engine: What was built for the provider before.

    Raises:
        ModelError: if it does not load, crashes, hangs, or does not take the inputs.
        ProviderError: if the provider does not load, or runs none of the nodes and may not fall back.
    """
    with archived(request.feeds) as archive:
        question = {
            **question_of(model, provider, batch, request, engine, archive),
            "keep_trace": request.keep_trace,
            "io_binding": request.io_binding,
        }
        answer = ask("edgekit.bench.cold", question, model, request.timeout_s)
    if answer["fallback"] and not request.execution.allow_fallback:
        raise ProviderError(
            f"{model}: provider {provider!r} loads but runs none of the nodes, all are on "
            f"{', '.join(map(short_name, answer['placement']))}; --allow-fallback permits that"
        )
    return ColdStart(
        **{key: answer[key] for key in _PLAIN},
        providers_used=tuple(answer["providers_used"]),
        placement={name: Placement(**p) for name, p in answer["placement"].items()},
        operators=tuple(OperatorTime(**o) for o in answer["operators"]),
        trace=tuple(answer.get("trace", ())),
        vocabularies=question["vocabularies"],
        device_memory=DeviceMemoryUse(**answer["device_memory"]),
        engine=engine,
    )


_PLAIN = (
    "batch",
    "session_ms",
    "first_run_ms",
    "baseline_rss_bytes",
    "load_rss_bytes",
    "peak_rss_bytes",
    "memcpy_nodes",
    "inputs",
    "assigned",
    "strays",
    "fallback",
    "io_binding",
)


def _work(question: dict[str, Any]) -> dict[str, Any]:
    """The child's part."""
    model, provider = Path(question["model"]), question["provider"]
    if provider == "cpu":  # drivers of devices map far more address space than there is memory
        limit_memory()
    inputs = BenchInputs(
        question["shapes"], unarchived(question["archive"]), question["seed"], question["vocabularies"]
    )
    execution = Execution(**question["execution"])
    require_ort()
    baseline, device = peak_rss_bytes(), DeviceMemoryMeter(provider, execution.device or 0)
    options = _options(question)
    start = perf_counter_ns()
    session = Session(model, provider, **options)
    session_ms = (perf_counter_ns() - start) / 1e6
    loaded = max(baseline, peak_rss_bytes())  # the kernel's counter may lag by some pages
    device.look()
    batch = question["batch"] or inputs.batch(session.inputs)
    feeds = inputs.feeds(session.inputs, batch)
    start = perf_counter_ns()
    session.run(feeds)
    first_run_ms = (perf_counter_ns() - start) / 1e6
    _run_on(session, feeds)
    peak = max(loaded, peak_rss_bytes())
    device.look()
    used, bound = session.providers_used, _binds(session, question["io_binding"])
    del session
    return {
        "batch": batch,
        "session_ms": session_ms,
        "first_run_ms": first_run_ms,
        "baseline_rss_bytes": baseline,
        "load_rss_bytes": loaded,
        "peak_rss_bytes": peak,
        "providers_used": used,
        "inputs": describe_feeds(feeds),
        "io_binding": bound,
        "device_memory": vars(device.found),
        **_profiled(model, provider, options, feeds, keep_trace=question["keep_trace"]),
    }


def _options(question: dict[str, Any]) -> dict[str, Any]:
    """How each session is made."""
    tuned = None if question["tuned"] is None else SessionOptions(**question["tuned"])
    return {"threads": question["threads"], "tuned": tuned, "execution": Execution(**question["execution"])}


def _run_on(session: Session, feeds: Feeds) -> None:
    """Run until memory no longer grows: arenas take some runs to settle."""
    until = perf_counter() + _SETTLE_S
    for _ in range(_SETTLE_RUNS):
        session.run(feeds)
        if perf_counter() > until:
            break


def _binds(session: Session, wanted: bool | None) -> bool:
    """Whether steady runs bind inputs and outputs: as it was asked for, else where the device has its own memory."""
    return device_memory(session) != "cpu" and can_bind(session) if wanted is None else wanted


def _profiled(model: Path, provider: str, options: dict[str, Any], feeds: Feeds, *, keep_trace: bool) -> dict[str, Any]:
    config = {RECORD_PLACEMENT: "1"}
    session = Session(model, provider, **options, config=config, profile_prefix=Path("profile"))
    end = perf_counter() + _PROFILE_S
    for _ in range(_PROFILE_RUNS):
        session.run(feeds)
        if perf_counter() > end:
            break
    events = json.loads(Path(session.raw.end_profiling()).read_text())
    found = summarise_profile(events) | ({"trace": events} if keep_trace else {})
    nodes = assigned_nodes(session.raw) or []
    return found | summarise_assignment(nodes, find_provider(provider).ort_name, list(found["placement"]))


def summarise_assignment(nodes: Sequence[Node], wanted: str, ran: Sequence[str]) -> dict[str, Any]:
    """Where the graph's nodes went.

    Args:
        nodes: As ONNX Runtime assigned them; none where it is too old to tell.
        wanted: ONNX Runtime's name of the provider that was asked for.
        ran: The providers of which the profile shows nodes.
    """
    used = [node.provider for node in nodes] or list(ran)
    strays = Counter(n.op_type for n in nodes if n.provider == "CPUExecutionProvider" and n.provider != wanted)
    return {
        "assigned": dict(Counter(node.provider for node in nodes)),
        "strays": dict(strays.most_common()),
        "fallback": bool(used) and wanted not in used,
    }


def summarise_profile(events: Sequence[Event]) -> dict[str, Any]:
    """Placement, copies between devices, and the slowest operators, from ONNX Runtime's trace.

    Args:
        events: The trace's events; the first run, which pays for allocations, is left out when there are more.
    """
    starts = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    since = starts[1] if len(starts) > 1 else 0
    kernels = [e for e in events if e.get("cat") == "Node" and str(e.get("name", "")).endswith("_kernel_time")]
    timed = _own_times([e for e in kernels if e["ts"] >= since])
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for event, own in timed:
        key = (event["args"]["provider"], event["args"]["op_name"])
        names[key].add(f"{event['name']} {event['args'].get('node_index', '')}")
        spent[key] += own
    total = sum(spent.values()) or 1.0
    operators = [
        {"op_type": op, "provider": p, "nodes": len(names[p, op]), "time_share": spent[p, op] / total}
        for p, op in sorted(spent, key=lambda key: -spent[key])
    ]
    providers = sorted({str(o["provider"]) for o in operators})
    return {
        "placement": {p: _sum_of([o for o in operators if o["provider"] == p]) for p in providers},
        "memcpy_nodes": sum(len(n) for (_, op), n in names.items() if op.startswith("Memcpy")),
        "operators": operators,
    }


def _sum_of(operators: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: sum(o[key] for o in operators) for key in ("nodes", "time_share")}


def _own_times(kernels: Sequence[Event]) -> list[tuple[Event, float]]:
    """Each event with its duration less that of the events inside it: an If holds the time of its branch."""
    ordered = sorted(kernels, key=lambda e: (e["tid"], e["ts"], -e["dur"]))
    own = [float(e["dur"]) for e in ordered]
    open_events: list[int] = []
    for i, event in enumerate(ordered):
        while open_events and not _inside(event, ordered[open_events[-1]]):
            open_events.pop()
        if open_events:
            own[open_events[-1]] -= event["dur"]
        open_events.append(i)
    return list(zip(ordered, (max(0.0, t) for t in own), strict=True))


def _inside(inner: Event, outer: Event) -> bool:
    return bool(inner["tid"] == outer["tid"] and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"])


if __name__ == "__main__":
    answer_parent(_work)
