from __future__ import annotations

import json
from typing import Any

import pytest

from edgekit.bench.scenarios import Scenario
from edgekit.bench.scenarios.logs import early_stopping_ms, figure, latencies_ms, rates, read_detail, reasons
from edgekit.errors import ModelError

# As LoadGen 6.0.17 wrote it for a server run of 100 queries.
SERVER: dict[str, Any] = {
    "result_validity": "INVALID",
    "result_perf_constraints_met": True,
    "early_stopping_met": False,
    "result_invalid_reason": "",
    "early_stopping_result": " * Run unsuccessful.  * Processed 100 queries.  * Would need to run at least 359 more "
    "queries,  with the run being successful if every additional  query were under latency.",
    "result_query_count": 100,
    "result_scheduled_samples_per_sec": 92.5674,
    "result_completed_samples_per_sec": 92.507,
    "result_min_latency_ns": 665355,
    "result_max_latency_ns": 1198749,
    "result_mean_latency_ns": 744113,
    "result_50.00_percentile_latency_ns": 706752,
    "result_90.00_percentile_latency_ns": 856383,
    "result_95.00_percentile_latency_ns": 920397,
    "result_97.00_percentile_latency_ns": 1111576,
    "result_99.00_percentile_latency_ns": 1198749,
    "result_99.90_percentile_latency_ns": 1198749,
}
SUMMARY = """\
Result is : INVALID
  Performance constraints satisfied : Yes
  Min duration satisfied : Yes
  Early stopping satisfied: NO
"""


def _detail(entries: dict[str, Any]) -> str:
    return "".join(f":::MLLOG {json.dumps({'key': k, 'value': v, 'time_ms': 1.0})}\n" for k, v in entries.items())


def test_a_log_is_read_back() -> None:
    assert read_detail("noise\n" + _detail(SERVER)) == SERVER


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    text = _detail({"result_validity": "VALID"}) + _detail({"result_validity": "INVALID"})
    assert read_detail(text)["result_validity"] == "INVALID"


@pytest.mark.parametrize("text", ["", _detail({"loadgen_version": "6.0.17"}), _detail({"result_validity": "maybe"})])
def test_a_log_without_a_result_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="LoadGen ended without a result"):
        read_detail(text)


def test_an_invalid_run_names_loadgens_reasons() -> None:
    assert reasons(SERVER, SUMMARY) == (
        "Early stopping satisfied: NO",
        "Run unsuccessful. Processed 100 queries. Would need to run at least 359 more queries, with the run being "
        "successful if every additional query were under latency.",
    )
    assert reasons({"result_validity": "VALID"}, SUMMARY) == ()


def test_figures_of_each_scenario() -> None:
    assert figure(SERVER, Scenario.SERVER).value == 92.507
    single = figure({"result_90.00_percentile_latency_ns": 315618}, Scenario.SINGLE_STREAM)
    assert (single.name, single.value, single.unit) == ("latency_p90", 0.315618, "ms")
    multi = figure({"result_99.00_percentile_per_query_latency_ns": 2051649}, Scenario.MULTI_STREAM)
    assert multi.value == 2.051649
    assert figure({"result_samples_per_second": 4975.91}, Scenario.OFFLINE).value == 4975.91


def test_latencies_are_milliseconds_and_offline_has_none() -> None:
    found = latencies_ms(SERVER, Scenario.SERVER)
    assert found["p50"] == 0.706752
    assert found["p99.9"] == found["maximum"] == 1.198749
    assert (found["minimum"], found["mean"]) == (0.665355, 0.744113)
    assert latencies_ms(SERVER, Scenario.OFFLINE) == {}


def test_rates_and_estimates_are_there_where_loadgen_gives_them() -> None:
    assert rates(SERVER) == {"completed_samples": 92.507, "scheduled_samples": 92.5674}
    assert early_stopping_ms({"early_stopping_latency_ss": 319109}, Scenario.SINGLE_STREAM) == 0.319109
    assert early_stopping_ms({"early_stopping_latency_ms": 0}, Scenario.MULTI_STREAM) is None
    assert early_stopping_ms(SERVER, Scenario.SERVER) is None
