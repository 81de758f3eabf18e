from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench import BenchInterrupted, BenchRequest, Verdict, bench_models, compare_rows
from edgekit.bench import run as module
from edgekit.errors import DataError, ModelError, ProviderError
from edgekit.machine import available_cores
from edgekit.ort import PROVIDERS, require_ort
from edgekit.ort.libraries import missing_libraries

from .conftest import Maker

QUICK = BenchRequest(min_seconds=0.05, min_runs=10, warmup_seconds=0.02, threads=1, guard=False)


def _quick(**changes: object) -> BenchRequest:
    return BenchRequest(**{**vars(QUICK), **changes})


def test_rows_hold_what_the_contract_says(chain: Maker) -> None:
    model = chain(16)
    report = bench_models([model], _quick(batches=(1, 4), min_runs=50))
    document = json.loads(json.dumps(report.as_dict()))
    first, second = document["rows"]
    assert (first["batch"], second["batch"]) == (1, 4)
    assert first["model"] == str(model)
    assert (first["provider"], first["providers_used"]) == ("cpu", ["CPUExecutionProvider"])
    assert first["placement"]["CPUExecutionProvider"]["nodes"] > 0
    assert first["placement"]["CPUExecutionProvider"]["time_share"] == pytest.approx(1.0)
    assert first["operators"][0]["op_type"]
    assert first["threads"] == 1
    assert first["n"] >= 50
    latency = first["latency_ms"]
    assert 0 < latency["minimum"] <= latency["ci95_p50"][0] <= latency["p50"] <= latency["ci95_p50"][1] < 10
    assert latency["p50"] <= latency["p90"]
    assert first["throughput_per_s"] == pytest.approx(1000 / latency["p50"])
    assert second["throughput_per_s"] == pytest.approx(4000 / second["latency_ms"]["p50"])
    assert first["session_ms"] > 0
    assert first["first_run_ms"] > 0
    assert first["peak_rss_bytes"] >= first["load_rss_bytes"] >= first["baseline_rss_bytes"] > 10_000_000
    assert first["size_bytes"] == model.stat().st_size
    assert second["inputs"] == {"x": "float32 4x16"}
    assert document["machine"]["cores"] == available_cores()
    assert document["complete"] is True


def test_raw_samples_come_when_they_are_asked_for(chain: Maker) -> None:
    row = bench_models([chain(16)], QUICK).rows[0]
    assert "samples_ms" not in row.as_dict()
    assert len(row.as_dict(samples=True)["samples_ms"]) == row.samples.n


def test_models_are_measured_in_turns(chain: Maker) -> None:
    small, large = bench_models([chain(16, name="a"), chain(160, 8, name="b")], QUICK).rows
    assert small.latency_ms.p50 < large.latency_ms.p50
    assert len(small.samples.medians_by_round().keys() & large.samples.medians_by_round().keys()) >= 4


def test_the_same_model_twice_gives_two_rows(chain: Maker) -> None:
    model = chain(16)
    assert [row.model for row in bench_models([model, model], QUICK).rows] == [str(model)] * 2


def test_rows_are_compared_with_the_first_models_at_the_same_batch(chain: Maker) -> None:
    models = [chain(128, 4, name="small"), chain(128, 16, name="large")]
    report = bench_models(models, _quick(batches=(1, 8), min_seconds=0.2))
    found = compare_rows(report)
    assert [(c.baseline, c.model, c.setting.batch) for c in found] == [
        (str(models[0]), str(models[1]), b) for b in (1, 8)
    ]
    assert [c.verdict for c in found] == [Verdict.SLOWER, Verdict.SLOWER]
    assert json.loads(json.dumps(found[0].as_dict()))["verdict"] == "SLOWER"


def test_a_fixed_batch_is_taken_when_none_is_asked_for(chain: Maker) -> None:
    assert bench_models([chain(16, batch=3)], QUICK).rows[0].batch == 3


def test_another_batch_than_the_fixed_one_is_refused(chain: Maker) -> None:
    with pytest.raises(ModelError, match=r"chain\.onnx: the model fixes the batch at 3 .*use --batch 3"):
        bench_models([chain(16, batch=3)], _quick(batches=(8,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": (0,)}, "batch 0 cannot be measured; a batch has at least 1 sample"),
        ({"batches": (1, -2)}, "batch -2 cannot be measured"),
        ({"threads": 0}, "0 threads cannot run anything; give 1 to"),
        ({"min_seconds": 0.0}, "must be above 0"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_loaded(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        bench_models([Path("not-there.onnx")], _quick(**changes))


def test_unknown_and_missing_providers_are_refused_and_nothing_falls_back(chain: Maker) -> None:
    with pytest.raises(ProviderError, match="unknown provider 'cdua'; did you mean 'cuda'"):
        bench_models([chain()], _quick(providers=("cdua",)))
    with pytest.raises(ProviderError, match="'coreml' is not in the installed ONNX Runtime; it comes with"):
        bench_models([chain()], _quick(providers=("coreml",)))


def test_a_provider_that_does_not_load_names_the_library_it_misses(chain: Maker) -> None:
    compiled = require_ort().get_available_providers()
    if "CUDAExecutionProvider" not in compiled or missing_libraries(PROVIDERS["cuda"]) == []:
        pytest.skip("this ONNX Runtime has no CUDA, or CUDA works here")
    with pytest.raises(ProviderError, match=r"'cuda' did not load on this machine: lib\S+, .*not found; pip install"):
        bench_models([chain()], _quick(providers=("cuda",)))


def test_no_models_and_missing_models_are_refused() -> None:
    with pytest.raises(ModelError, match="no model to measure"):
        bench_models([], QUICK)
    with pytest.raises(ModelError, match=r"nowhere\.onnx is not there"):
        bench_models([Path("nowhere.onnx")], QUICK)


def test_dynamic_dimensions_must_be_given(two_dynamic_dims: Path) -> None:
    with pytest.raises(ModelError, match=r"dynamic dimensions: x: float32 batchxtimex4; give them"):
        bench_models([two_dynamic_dims], QUICK)
    row = bench_models([two_dynamic_dims], _quick(shapes={"x": (2, 7, 4)})).rows[0]
    assert row.cold.inputs == {"x": "float32 2x7x4"}


def test_unknown_and_enormous_shapes_are_refused(two_dynamic_dims: Path) -> None:
    with pytest.raises(ModelError, match="unknown inputs y"):
        bench_models([two_dynamic_dims], _quick(shapes={"y": (1, 2, 4)}))
    with pytest.raises(ModelError, match="edgekit generates at most"):
        bench_models([two_dynamic_dims], _quick(shapes={"x": (1, 1 << 40, 4)}))


def test_data_is_repeated_or_cut_to_the_batch(chain: Maker) -> None:
    data = {"x": np.ones((3, 16), np.float64)}
    rows = bench_models([chain(16)], _quick(batches=(2, 5), feeds=data)).rows
    assert [row.cold.inputs["x"] for row in rows] == ["float32 2x16", "float32 5x16"]
    assert rows[0].input_source == "data"
    with pytest.raises(DataError, match="lacks input x"):
        bench_models([chain(16)], _quick(feeds={"z": np.ones((3, 16))}))


def test_more_threads_than_cores_are_noted(chain: Maker) -> None:
    threads = available_cores() + 3
    report = bench_models([chain(16)], _quick(threads=threads))
    assert any(f"{threads} threads on {available_cores()} cores" in note for note in report.notes)


def test_a_model_that_wants_too_much_memory_harms_only_its_child(huge_at_run: Path) -> None:
    with pytest.raises(ModelError, match=r"huge\.onnx"):
        bench_models([huge_at_run], QUICK)


def test_a_model_that_crashes_the_runtime_is_one_line(deep_functions: Path) -> None:
    with pytest.raises(ModelError, match=r"deep\.onnx crashes ONNX Runtime when it is loaded or run \(SIG"):
        bench_models([deep_functions], QUICK)


def test_a_cold_start_that_takes_too_long_is_given_up(chain: Maker) -> None:
    with pytest.raises(ModelError, match="did not answer within"):
        bench_models([chain(16)], _quick(timeout_s=0.01))


def test_an_interruption_keeps_the_rows(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.measure_cases

    def interrupted(*args: object) -> object:
        return replace(real(*args), complete=False)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "measure_cases", interrupted)
    with pytest.raises(BenchInterrupted) as stop:
        bench_models([chain(16)], QUICK)
    assert isinstance(stop.value, KeyboardInterrupt)
    assert stop.value.report.complete is False
    assert stop.value.report.rows[0].samples.n > 0


_SCRIPT = """
import sys
from pathlib import Path
from edgekit.bench import BenchInterrupted, BenchRequest, bench_models, run
from edgekit.interrupt import interruptible
real = run.measure_guarded
run.measure_guarded = lambda *a: (print("measuring", flush=True), real(*a))[1]
with interruptible():
    try:
        bench_models([Path(sys.argv[1])], BenchRequest(min_seconds=60, **eval(sys.argv[2])))
    except BenchInterrupted as stop:
        print(len(stop.report.rows), stop.report.rows[0].samples.n)
"""


@pytest.mark.parametrize("asked", [{"threads": 1}, {"streams": (4,)}], ids=["alone", "streams"])
def test_ctrl_c_stops_a_long_benchmark_within_a_second_and_gives_what_there_is(
    chain: Maker, asked: dict[str, object]
) -> None:
    command = [sys.executable, "-c", _SCRIPT, str(chain(64, 20)), repr(asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "measuring"
        time.sleep(2.5)
        child.send_signal(signal.SIGINT)
        started = time.monotonic()
        rows, runs = child.stdout.readlines()[-1].split()
        assert child.wait() == 0
    assert time.monotonic() - started < 1.5
    assert (int(rows), int(runs) > 0) == (1, True)
