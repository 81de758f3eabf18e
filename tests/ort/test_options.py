from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.ort import Session, SessionOptions, require_ort
from edgekit.ort.options import EXECUTION_MODES, GRAPH_LEVELS
from edgekit.runtime.manifest import SESSION_CONFIG

EVERYTHING = SessionOptions(
    graph_optimization_level="ORT_ENABLE_BASIC",
    execution_mode="ORT_PARALLEL",
    enable_cpu_mem_arena=False,
    enable_mem_pattern=False,
    inter_op_num_threads=2,
    config_entries={"session.intra_op.allow_spinning": "0"},
    threads=1,
)


def test_every_name_is_one_of_onnx_runtimes() -> None:
    ort = require_ort()
    assert all(hasattr(ort.SessionOptions(), name) for name in EVERYTHING.attributes())
    assert all(hasattr(ort.GraphOptimizationLevel, level) for level in GRAPH_LEVELS)
    assert all(hasattr(ort.ExecutionMode, mode) for mode in EXECUTION_MODES)
    assert all(key.startswith("session.") for key in SESSION_CONFIG)


def test_what_is_set_is_applied_and_what_is_not_is_left() -> None:
    ort = require_ort()
    options = ort.SessionOptions()
    EVERYTHING.apply(options)
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 2)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    untouched = ort.SessionOptions()
    SessionOptions().apply(untouched)
    assert untouched.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert untouched.enable_cpu_mem_arena is True
    assert untouched.intra_op_num_threads == 0


@pytest.mark.parametrize(("asked", "got"), [(None, 1), (2, 2)])
def test_a_session_takes_them_and_threads_that_are_asked_for_win(dense_onnx: Path, asked: int | None, got: int) -> None:
    session = Session(dense_onnx, threads=asked, tuned=EVERYTHING)
    held = session.raw.get_session_options()
    assert held.enable_mem_pattern is False
    assert session.threads == held.intra_op_num_threads == got


def test_only_what_is_set_is_told() -> None:
    assert SessionOptions(threads=2).as_dict() == {"session_options": {}, "config_entries": {}, "threads": 2}
    assert EVERYTHING.as_dict()["session_options"]["execution_mode"] == "ORT_PARALLEL"
