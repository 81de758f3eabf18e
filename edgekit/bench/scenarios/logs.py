"""What LoadGen's logs say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edgekit.bench.scenarios.records import Figure, Scenario
from edgekit.errors import ModelError

_MARK = ":::MLLOG "
_PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
_RATES = {
    "result_qps_with_loadgen_overhead": "queries",
    "result_samples_per_second": "samples",
    "result_completed_samples_per_sec": "completed_samples",
    "result_scheduled_samples_per_sec": "scheduled_samples",
}
_EARLY = {Scenario.SINGLE_STREAM: "early_stopping_latency_ss", Scenario.MULTI_STREAM: "early_stopping_latency_ms"}


def read_detail(text: str) -> dict[str, Any]:
    """Key and value of each entry of `mlperf_log_detail.txt`; of a key that comes twice, the last.

    Raises:
        ModelError: if it holds no result: LoadGen did not come to its end.
    """
    entries = [json.loads(line[len(_MARK) :]) for line in text.splitlines() if line.startswith(_MARK)]
    found = {e["key"]: e["value"] for e in entries}
    if found.get("result_validity") not in ("VALID", "INVALID"):
        raise ModelError("LoadGen ended without a result; its detail log has no result_validity")
    return found


def reasons(detail: Mapping[str, Any], summary: str) -> tuple[str, ...]:
    """Why a run is INVALID, in LoadGen's words; nothing for one that is VALID."""
    if detail["result_validity"] == "VALID":
        return ()
    missed = [_plain(line) for line in summary.splitlines() if re.search(r"satisfied\s*:\s*NO\b", line)]
    told = [detail.get(key) for key in ("result_invalid_reason", "error_runtime")]
    if detail.get("early_stopping_met") is False:
        told.append(detail.get("early_stopping_result"))
    return tuple(missed + [_plain(str(text)) for text in told if text and str(text).strip()])


def figure(detail: Mapping[str, Any], scenario: Scenario) -> Figure:
    """What the scenario is judged by.

    Source: MLPerf Inference Rules, "Scenarios".
    """
    if scenario is Scenario.SINGLE_STREAM:
        return Figure("latency_p90", detail["result_90.00_percentile_latency_ns"] / 1e6, "ms")
    if scenario is Scenario.MULTI_STREAM:
        return Figure("query_latency_p99", detail["result_99.00_percentile_per_query_latency_ns"] / 1e6, "ms")
    if scenario is Scenario.SERVER:
        return Figure("completed_samples", detail["result_completed_samples_per_sec"], "per s")
    return Figure("samples", detail["result_samples_per_second"], "per s")


def latencies_ms(detail: Mapping[str, Any], scenario: Scenario) -> dict[str, float]:
    """Percentiles, mean and extremes of the queries' latency; nothing for offline, which has one query."""
    if scenario is Scenario.OFFLINE:
        return {}
    per_query, query = ("per_query_", "query_") if scenario is Scenario.MULTI_STREAM else ("", "")
    named = {f"p{float(p):g}": f"result_{p}_percentile_{per_query}latency_ns" for p in _PERCENTILES}
    named |= {name: f"result_{name[:3]}_{query}latency_ns" for name in ("minimum", "maximum")}
    named["mean"] = f"result_mean_{query}latency_ns"
    return {name: detail[key] / 1e6 for name, key in named.items()}


def rates(detail: Mapping[str, Any]) -> dict[str, float]:
    """What LoadGen tells of queries and samples a second."""
    return {name: float(detail[key]) for key, name in _RATES.items() if key in detail}


def early_stopping_ms(detail: Mapping[str, Any], scenario: Scenario) -> float | None:
    """LoadGen's estimate of the percentile; None where the queries were too few, which it writes as 0."""
    value = detail.get(_EARLY.get(scenario, ""), 0)
    return value / 1e6 if value else None


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace(" * ", " ").replace(" :", ":")).strip()
