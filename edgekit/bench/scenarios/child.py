"""The child process in which LoadGen runs: its threads are C++, and only ending the process stops them."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path
from typing import Any

from edgekit.bench.inputs import BenchInputs, describe_feeds, fixed_batch, refuse_other_batch
from edgekit.bench.scenarios.library import make_library
from edgekit.bench.scenarios.records import LoadPlan, Scenario
from edgekit.bench.scenarios.system import System
from edgekit.errors import MissingPackageError, ModelError
from edgekit.machine import memory_bytes
from edgekit.ort.archive import unarchived
from edgekit.ort.child import answer_parent, limit_memory
from edgekit.ort.execution import Execution
from edgekit.ort.options import SessionOptions
from edgekit.ort.session import Session

_QUERY_BYTES = 200  # what LoadGen keeps for each query that it prepares, roughly
_QUICKER = 0.6  # LoadGen prepares queries for runs this much shorter than measured; running out of them is INVALID
_SLACK = 1.3  # the same for offline's one query, whose size LoadGen fixes by this
_SEEDS = {
    "qsl_rng_seed": 1780908523862526354,
    "sample_index_rng_seed": 14771362308971278857,
    "schedule_rng_seed": 18209322760996052031,
}
_LOADGEN_NAMES = {
    Scenario.SINGLE_STREAM: "SingleStream",
    Scenario.MULTI_STREAM: "MultiStream",
    Scenario.SERVER: "Server",
    Scenario.OFFLINE: "Offline",
}


def require_loadgen() -> Any:
    """The mlperf_loadgen module.

    Raises:
        MissingPackageError: where it is not installed, with the line that installs it.
    """
    try:
        return importlib.import_module("mlperf_loadgen")
    except ModuleNotFoundError:
        raise MissingPackageError(
            "scenarios need MLPerf's LoadGen, which is not installed: pip install 'edgekit[loadgen]'"
        ) from None


def settings_of(plan: LoadPlan, run_ns: int, batch: int) -> dict[str, Any]:
    """What LoadGen is told, by the names of its TestSettings.

    Args:
        plan: What the user asked for.
        run_ns: One run of `batch` samples, measured just before.
        batch: Samples of that run.

    Source: the seeds, percentiles and samples a query are those of loadgen/mlperf.conf of mlcommons/inference.
    """
    common = {"min_duration_ms": int(1000 * plan.min_seconds), "min_query_count": plan.fewest_queries, **_SEEDS}
    runs_per_query = -(-plan.samples_per_query // batch)
    own: dict[Scenario, dict[str, Any]] = {
        Scenario.SINGLE_STREAM: {
            "single_stream_expected_latency_ns": int(_QUICKER * run_ns) or 1,
            "single_stream_target_latency_percentile": 0.9,
        },
        Scenario.MULTI_STREAM: {
            "multi_stream_expected_latency_ns": int(_QUICKER * run_ns * runs_per_query) or 1,
            "multi_stream_samples_per_query": plan.samples_per_query,
            "multi_stream_target_latency_percentile": 0.99,
        },
        Scenario.SERVER: {
            "server_target_qps": plan.target_qps or 0.5e9 / run_ns,
            "server_target_latency_ns": int(1e6 * plan.latency_bound_ms),
            "server_target_latency_percentile": 0.99,
        },
        Scenario.OFFLINE: {"offline_expected_qps": _SLACK * plan.streams * batch * 1e9 / run_ns},
    }
    return {**common, **own[plan.scenario]}


def _work(question: dict[str, Any]) -> dict[str, Any]:
    """The child's part."""
    loadgen = require_loadgen()
    plan = LoadPlan(**{**question["plan"], "scenario": Scenario(question["plan"]["scenario"])})
    if question["provider"] == "cpu":  # drivers of devices map far more address space than there is memory
        limit_memory()
    tuned = None if question["tuned"] is None else SessionOptions(**question["tuned"])
    options = {"threads": question["threads"], "tuned": tuned, "execution": Execution(**question["execution"])}
    session = Session(Path(question["model"]), question["provider"], **options)
    batch = plan.batch(question["batch"], fixed_batch(session.inputs))
    refuse_other_batch(session.inputs, batch)
    inputs = BenchInputs(
        question["shapes"], unarchived(question["archive"]), question["seed"], question["vocabularies"]
    )
    library = make_library(inputs, session.inputs)
    if not library.batched:
        batch = 1
    one_at_a_time = plan.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
    streams = 0 if one_at_a_time else plan.streams
    system = System(loadgen, session, library, batch=batch, streams=streams, title=question["title"])
    system.watch(question["timeout_s"])
    run_ns = system.warm_up()
    settings = settings_of(plan, run_ns, batch)
    _refuse_endless(plan, run_ns, batch)
    _run(loadgen, system, library.count, settings, plan.scenario)
    return {
        "summary": Path("mlperf_log_summary.txt").read_text(),
        "detail": Path("mlperf_log_detail.txt").read_text(),
        "settings": settings,
        "batch": batch,
        "fixed": library.fill,
        "run_ms": run_ns / 1e6,
        "samples": library.count,
        "inputs": describe_feeds(library.feed(range(min(batch, library.count)))),
        "providers_used": session.providers_used,
        "streams": streams or 1,
        "loadgen": metadata.version("mlcommons-loadgen"),
    }


def _refuse_endless(plan: LoadPlan, run_ns: int, batch: int) -> None:
    """LoadGen prepares every query before it starts: ten minutes of a model of 10 us take more memory than there is."""
    queries = plan.min_seconds * 1e9 / (_QUICKER * run_ns) * (batch if plan.scenario is Scenario.OFFLINE else 1)
    if queries * _QUERY_BYTES > memory_bytes() / 4:
        raise ModelError(
            f"LoadGen would prepare {queries:,.0f} queries for {plan.min_seconds:.0f} s of a model that takes "
            f"{run_ns / 1e3:.0f} us, more than memory holds; give fewer --min-seconds"
        )


def _run(loadgen: Any, system: System, count: int, settings: dict[str, Any], scenario: Scenario) -> None:
    asked = loadgen.TestSettings()
    asked.scenario = getattr(loadgen.TestScenario, _LOADGEN_NAMES[scenario])
    asked.mode = loadgen.TestMode.PerformanceOnly
    for name, value in settings.items():
        setattr(asked, name, value)
    logs = loadgen.LogSettings()
    logs.enable_trace = False
    sut = loadgen.ConstructSUT(system.issue, system.flush)
    library = loadgen.ConstructQSL(count, count, lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(sut, library, asked, logs, "")
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(sut)


if __name__ == "__main__":
    answer_parent(_work)
