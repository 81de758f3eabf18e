"""Where nodes ran, what was asked for, and that nothing falls back in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.bench import BenchRequest, bench_models
from edgekit.bench.cold import summarise_assignment
from edgekit.bench.run import placement_notes
from edgekit.errors import ProviderError
from edgekit.ort import PROVIDERS, Execution, Node, require_ort

from .conftest import Maker

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
QUICK = BenchRequest(min_seconds=0.02, min_runs=5, warmup_seconds=0.01, threads=1)


@pytest.fixture
def lacking() -> str:
    there = require_ort().get_available_providers()
    return next(p.name for p in PROVIDERS.values() if p.ort_name not in there)


def test_nodes_by_provider_and_those_that_strayed_to_the_cpu() -> None:
    nodes = [Node("Conv", "a", CUDA), Node("Shape", "b", CPU), Node("Shape", "c", CPU), Node("Gather", "d", CPU)]
    assert summarise_assignment(nodes, CUDA, []) == {
        "assigned": {CUDA: 1, CPU: 3},
        "strays": {"Shape": 2, "Gather": 1},
        "fallback": False,
    }
    assert summarise_assignment(nodes, CPU, [])["strays"] == {}
    assert summarise_assignment(nodes[1:], CUDA, [])["fallback"]


def test_where_onnx_runtime_does_not_tell_the_profile_does() -> None:
    assert summarise_assignment([], CUDA, [CPU]) == {"assigned": {}, "strays": {}, "fallback": True}
    assert not summarise_assignment([], CUDA, [CPU, CUDA])["fallback"]
    assert not summarise_assignment([], CUDA, [])["fallback"]  # a graph of constants runs nowhere


def test_a_fallback_that_is_allowed_is_said_everywhere(chain: Maker, lacking: str) -> None:
    request = replace(QUICK, providers=(lacking,), execution=Execution(allow_fallback=True))
    (row,) = bench_models([chain()], request).rows
    document = json.loads(json.dumps(row.as_dict()))
    assert (document["provider"], document["providers_used"], document["fallback"]) == (lacking, [CPU], True)
    assert document["assigned_nodes"] == {CPU: 8}
    assert document["notes"][0] == f"FALLBACK: {lacking} was asked for and ran nothing; these figures are of cpu"


def test_a_fallback_is_red_in_the_table(chain: Maker, cli: Callable[..., Any], lacking: str) -> None:
    from edgekit.report.benchmark import Findings, sheets

    request = replace(QUICK, providers=(lacking, "cpu"), execution=Execution(allow_fallback=True))
    latency, cold = sheets(Findings(bench_models([chain()], request)))
    assert [line.mark for line in latency.lines] == [line.mark for line in cold.lines] == ["bad", ""]
    assert [line.cells[1] for line in latency.lines] == [f"{lacking}, ran on cpu", "cpu"]


def test_without_leave_it_is_exit_3(chain: Maker, cli: Callable[..., Any], lacking: str) -> None:
    answer = cli("bench", chain(), "--provider", lacking)
    assert answer.code == 3
    assert answer.err.startswith(f"error: provider '{lacking}' is not in the installed ONNX Runtime; it comes with ")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_json_stays_one_document_when_libraries_are_missing(
    chain: Maker, process: Callable[..., Any], provider: str
) -> None:
    answer = process(
        "bench",
        chain(),
        "--provider",
        provider,
        "--allow-fallback",
        "--min-seconds",
        "0.02",
        "--threads",
        "1",
        "--json",
    )
    (row,) = answer.json()["rows"]
    assert row["fallback"] is (PROVIDERS[provider].ort_name not in row["providers_used"])


def test_a_cpu_row_says_that_there_is_no_device(chain: Maker) -> None:
    document = bench_models([chain()], QUICK).rows[0].as_dict()
    assert document["fallback"] is False
    assert document["io_binding"] is False
    assert document["device_memory"] == {"peak_bytes": None, "source": "no device: the provider runs on the CPU"}
    assert "build_ms" not in document
    assert document["assigned_nodes"] == {CPU: 8}


def test_io_binding_can_be_asked_for(chain: Maker) -> None:
    row = bench_models([chain()], replace(QUICK, io_binding=True, streams=(1, 2))).rows[1]
    assert row.as_dict()["io_binding"] is True
    assert row.samples.n >= 5


def test_a_device_that_no_provider_can_choose_is_refused(chain: Maker) -> None:
    with pytest.raises(ProviderError, match="provider 'cpu' has no devices to choose from"):
        bench_models([chain()], replace(QUICK, execution=Execution(device=0)))


def test_flags_that_contradict_each_other(chain: Maker, cli: Callable[..., Any]) -> None:
    answer = cli("bench", chain(), "--provider", "cuda", "--allow-fallback", "--strict-placement")
    assert answer.code == 2
    twice = ["--trt-profile", "x=1x16:1x16:1x16"] * 2
    answer = cli("bench", chain(), *twice)
    assert (answer.code, answer.err) == (
        1,
        "error: --trt-profile x is given twice; an engine has one range for each input\n",
    )


def test_notes_on_strays(chain: Maker, tmp_path: Path) -> None:
    cold = bench_models([chain()], QUICK).rows[0].cold
    assert placement_notes("cpu", cold) == []
    strayed = replace(cold, strays={"Shape": 2, "Gather": 1}, assigned={CUDA: 9, CPU: 3})
    assert placement_notes("cuda", strayed) == ["3 of 12 nodes run on the CPU: Shape (2), Gather (1)"]
