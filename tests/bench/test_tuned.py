from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from edgekit.bench.tuned import SessionSettings, read_tuned
from edgekit.errors import ModelError
from edgekit.ort import SessionOptions
from edgekit.ort.options import EXECUTION_MODES, GRAPH_LEVELS


def _file(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "o.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_file_written_by_hand_needs_no_more_than_it_sets(tmp_path: Path) -> None:
    held = {"session_options": {"enable_mem_pattern": False}, "config_entries": {"session.disable_prepacking": "1"}}
    expected = SessionOptions(enable_mem_pattern=False, config_entries={"session.disable_prepacking": "1"}, threads=2)
    assert read_tuned(_file(tmp_path, {**held, "threads": 2})).options == expected
    assert read_tuned(_file(tmp_path, {})).options == SessionOptions()


def test_every_level_and_mode_is_allowed() -> None:
    kinds = {"graph_optimization_level": GRAPH_LEVELS, "execution_mode": EXECUTION_MODES}
    for name, values in kinds.items():
        assert set(get_args(get_args(SessionSettings.model_fields[name].annotation)[0])) == set(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"thread": 2}, "unknown key 'thread'; did you mean 'threads'?"),
        ({"session_options": {"enable_mem_patern": False}}, "did you mean 'enable_mem_pattern'?"),
        ({"config_entries": {"session.disable_prepack": "1"}}, "did you mean 'session.disable_prepacking'?"),
        ({"session_options": {"execution_mode": "parallel"}}, "session_options.execution_mode: Input should be"),
        ({"threads": 0}, "threads: Input should be greater than 0, got 0"),
        ({"threads": "2"}, "threads: Input should be a valid integer, got '2'"),
        ({"session_options": 3}, "session_options: Input should be"),
        ([1], "it holds no JSON object"),
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("\x00\xff", "it is no JSON"),
    ],
)
def test_what_is_unknown_or_wrong_is_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_tuned(_file(tmp_path, content))
    assert message in str(refused.value)
    assert "o.json" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_file_that_is_not_there_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.json are not there; `edgekit bench MODEL --tune --out .*none\.json`"):
        read_tuned(tmp_path / "none.json")
