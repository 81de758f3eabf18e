from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench import BenchRequest
from edgekit.bench.scenarios import LoadPlan, Scenario, ScenarioReport, ScenariosInterrupted, official, run_scenarios
from edgekit.bench.scenarios import run as module
from edgekit.bench.scenarios.child import settings_of
from edgekit.errors import MissingPackageError, ModelError, ProviderError

from ..conftest import Maker

needs_loadgen = pytest.mark.skipif(
    importlib.util.find_spec("mlperf_loadgen") is None,
    reason="MLPerf's LoadGen is not installed: pip install 'edgekit[loadgen]'",
)
REQUEST = BenchRequest(threads=1)


def _run(model: Path, scenario: Scenario, **changes: Any) -> ScenarioReport:
    return run_scenarios([model], REQUEST, replace(LoadPlan(scenario, min_seconds=0.2), **changes))


@needs_loadgen
def test_single_stream(chain: Maker) -> None:
    result = _run(chain(16), Scenario.SINGLE_STREAM).results[0]
    assert (result.verdict, result.reasons) == ("VALID", ())
    assert result.queries == result.completed_samples >= 100
    assert result.figure.value == result.latency_ms["p90"]
    assert 0 < result.latency_ms["minimum"] <= result.latency_ms["p50"] <= result.latency_ms["p90"]
    assert result.early_stopping_ms is not None
    assert result.early_stopping_ms >= result.latency_ms["p90"]
    assert (result.batch, result.samples, result.threads) == (1, 64, 1)
    assert result.inputs == {"x": "float32 1x16"}
    assert result.providers_used == ("CPUExecutionProvider",)
    assert result.run_ms > 0


@needs_loadgen
def test_multi_stream_runs_a_query_as_one_batch(chain: Maker) -> None:
    result = _run(chain(16), Scenario.MULTI_STREAM, samples_per_query=5).results[0]
    assert result.verdict == "VALID"
    assert result.batch == 5
    assert result.completed_samples == 5 * result.queries >= 5 * 662
    assert result.figure.value == result.latency_ms["p99"]


@needs_loadgen
def test_server_keeps_up_or_is_invalid_with_loadgens_reasons(chain: Maker) -> None:
    good = _run(chain(16), Scenario.SERVER, target_qps=2000.0, streams=2, latency_bound_ms=1000.0).results[0]
    assert good.verdict == "VALID"
    assert good.queries >= 459
    assert good.streams == 2
    assert set(good.per_second) == {"completed_samples", "scheduled_samples"}
    late = _run(chain(16), Scenario.SERVER, target_qps=2000.0, latency_bound_ms=1e-3).results[0]
    assert late.verdict == "INVALID"
    assert late.reasons[0] == "Performance constraints satisfied: NO"
    assert late.as_dict()["valid"] is False


@needs_loadgen
def test_offline_is_one_query_of_many_samples(chain: Maker) -> None:
    result = _run(chain(16, batch=3), Scenario.OFFLINE).results[0]
    assert result.verdict == "VALID"
    assert (result.queries, result.batch) == (1, 3)
    assert result.completed_samples > 100
    assert result.figure.value == result.per_second["samples"]
    assert result.latency_ms == {}
    assert "the model fixes the batch at 3" in result.notes[-1]


@needs_loadgen
def test_logs_are_kept_on_request_and_nothing_else_is_left(
    chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    monkeypatch.chdir(place)
    model = chain(16)
    data = replace(REQUEST, feeds={"x": np.ones((3, 16), np.float32)})
    plan = LoadPlan(Scenario.SINGLE_STREAM, min_seconds=0.1)
    report = run_scenarios([model], data, plan, logs=Path("logs"))
    kept = place / "logs" / "01-chain-cpu-single-stream"
    assert sorted(p.name for p in kept.iterdir()) == ["mlperf_log_detail.txt", "mlperf_log_summary.txt"]
    assert "Result is : VALID" in (kept / "mlperf_log_summary.txt").read_text()
    assert [p.name for p in place.iterdir()] == ["logs"]
    document = json.loads(json.dumps(report.as_dict()))["scenarios"][0]
    assert (document["samples"], document["input_source"]) == (3, "data")
    assert document["logs"] == "logs/01-chain-cpu-single-stream"


@needs_loadgen
def test_a_model_that_hangs_is_one_line(endless: Path) -> None:
    with pytest.raises(ModelError, match=r"endless\.onnx: a run did not end within 0\.5 s; it hangs"):
        run_scenarios([endless], replace(REQUEST, timeout_s=0.5), LoadPlan(Scenario.SERVER))


@needs_loadgen
def test_a_model_that_crashes_or_fails_is_one_line(deep_functions: Path, huge_at_run: Path) -> None:
    with pytest.raises(ModelError, match=r"deep\.onnx crashes ONNX Runtime when it is loaded or run \(SIG"):
        _run(deep_functions, Scenario.OFFLINE)
    with pytest.raises(ModelError, match=r"huge\.onnx: the model failed to run"):
        _run(huge_at_run, Scenario.SINGLE_STREAM)


@needs_loadgen
def test_another_batch_than_the_fixed_one_is_refused(chain: Maker) -> None:
    with pytest.raises(ModelError, match=r"fixes the batch at 3 .* batch 2 cannot be measured"):
        run_scenarios([chain(16, batch=3)], replace(REQUEST, batches=(2,)), LoadPlan(Scenario.OFFLINE))


@needs_loadgen
def test_bad_plans_providers_and_models_are_refused_before_anything_runs(chain: Maker) -> None:
    with pytest.raises(ModelError, match=r"target_qps of a scenario is 0\.0; it must be a number above 0"):
        _run(chain(), Scenario.SERVER, target_qps=0.0)
    with pytest.raises(ModelError, match="min_seconds of a scenario is inf"):
        _run(chain(), Scenario.OFFLINE, min_seconds=float("inf"))
    with pytest.raises(ModelError, match=r"nowhere\.onnx is not there"):
        _run(Path("nowhere.onnx"), Scenario.OFFLINE)
    with pytest.raises(ProviderError, match="'coreml' is not in the installed ONNX Runtime"):
        run_scenarios([chain()], BenchRequest(providers=("coreml",)), LoadPlan(Scenario.OFFLINE))


@needs_loadgen
def test_an_interruption_keeps_what_was_finished(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = module.ask

    def second_is_stopped(*args: Any, **options: Any) -> dict[str, Any]:
        asked.append(args)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(module, "ask", second_is_stopped)
    model = chain(16)
    with pytest.raises(ScenariosInterrupted) as stop:
        run_scenarios([model, model], REQUEST, LoadPlan(Scenario.SINGLE_STREAM, min_seconds=0.1))
    assert stop.value.report.complete is False
    assert [r.model for r in stop.value.report.results] == [str(model)]


def test_without_loadgen_the_error_says_how_to_install_it(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingPackageError, match=r"not installed: pip install 'edgekit\[loadgen\]'"):
        _run(chain(), Scenario.OFFLINE)


def test_loadgen_is_told_to_prepare_more_than_it_needs() -> None:
    single = settings_of(LoadPlan(Scenario.SINGLE_STREAM), 1_000_000, 1)
    assert single["single_stream_expected_latency_ns"] < 1_000_000
    assert (single["min_duration_ms"], single["min_query_count"]) == (10_000, 100)
    multi = settings_of(LoadPlan(Scenario.MULTI_STREAM), 1_000_000, 4)
    assert 1_000_000 < multi["multi_stream_expected_latency_ns"] < 2_000_000
    assert settings_of(LoadPlan(Scenario.OFFLINE), 1_000_000, 4)["offline_expected_qps"] > 4000
    assert settings_of(LoadPlan(Scenario.SERVER), 1_000_000, 1)["server_target_qps"] == 500
    asked = settings_of(LoadPlan(Scenario.SERVER, target_qps=7.5, latency_bound_ms=20.0), 1, 1)
    assert (asked["server_target_qps"], asked["server_target_latency_ns"]) == (7.5, 20_000_000)


def test_the_official_plan_takes_ten_minutes() -> None:
    assert official(Scenario.SERVER, target_qps=3.0) == LoadPlan(Scenario.SERVER, 600.0, None, 3.0)
    assert official(Scenario.OFFLINE).fewest_queries == 24576
    assert official(Scenario.MULTI_STREAM).fewest_queries == 662
