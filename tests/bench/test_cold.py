from __future__ import annotations

from typing import Any

import pytest

from edgekit.bench.cold import cold_start, summarise_profile
from edgekit.bench.records import BenchRequest

from .conftest import Maker


def _kernel(op: str, ts: int, dur: int, provider: str = "CPUExecutionProvider", name: str = "") -> dict[str, Any]:
    args = {"provider": provider, "op_name": op, "node_index": "1"}
    return {"cat": "Node", "name": f"{name or op}_kernel_time", "ts": ts, "dur": dur, "tid": 1, "args": args}


def _run(ts: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 100, "tid": 1, "args": {}}


def test_placement_is_by_provider_and_share_of_time() -> None:
    cuda = "CUDAExecutionProvider"
    found = summarise_profile(
        [_run(0), _kernel("Conv", 1, 60, cuda), _kernel("MemcpyToHost", 61, 10, cuda), _kernel("TopK", 71, 30)]
    )
    assert found["placement"] == {
        "CPUExecutionProvider": {"nodes": 1, "time_share": pytest.approx(0.3)},
        "CUDAExecutionProvider": {"nodes": 2, "time_share": pytest.approx(0.7)},
    }
    assert found["memcpy_nodes"] == 1
    assert [o["op_type"] for o in found["operators"]] == ["Conv", "TopK", "MemcpyToHost"]


def test_the_first_run_is_left_out_when_there_are_more() -> None:
    found = summarise_profile([_run(0), _kernel("Conv", 1, 1000), _run(2000), _kernel("Relu", 2001, 5)])
    assert [o["op_type"] for o in found["operators"]] == ["Relu"]


def test_an_if_is_not_charged_for_the_nodes_in_its_branch() -> None:
    found = summarise_profile([_run(0), _kernel("If", 10, 50), _kernel("Conv", 15, 40), _kernel("Relu", 70, 10)])
    shares = {o["op_type"]: o["time_share"] for o in found["operators"]}
    assert shares == {
        "Conv": pytest.approx(40 / 60),
        "If": pytest.approx(10 / 60),
        "Relu": pytest.approx(10 / 60),
    }


def test_several_runs_of_one_node_count_as_one_node() -> None:
    found = summarise_profile([_run(0), _run(100), _kernel("Relu", 101, 5), _run(200), _kernel("Relu", 201, 5)])
    assert found["placement"]["CPUExecutionProvider"]["nodes"] == 1


def test_a_cold_start_is_measured_in_a_process_of_its_own(chain: Maker) -> None:
    small = cold_start(chain(16, name="small"), "cpu", 1, BenchRequest(threads=1))
    large = cold_start(chain(1000, 20, name="large"), "cpu", 1, BenchRequest(threads=1))
    weights = 20 * 1000 * 1000 * 4
    assert small.batch == 1
    assert large.load_rss_bytes - small.load_rss_bytes > weights / 2
    assert large.session_ms > small.session_ms > 0
    assert small.providers_used == ("CPUExecutionProvider",)
    # 80 MB are far below what this test process holds, which the child must not inherit
    assert small.baseline_rss_bytes < 150_000_000
    assert large.operators[0].op_type.startswith(("MatMul", "Gemm", "FusedMatMul", "FusedGemm"))
