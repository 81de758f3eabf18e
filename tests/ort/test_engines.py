from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.ort.engines import EngineKey, KeptEngine, building, find_engine, keep

KEY = EngineKey(
    model_sha256="ab",
    onnxruntime="1.31.1",
    tensorrt="10.13.2",
    driver="580.65.06",
    gpu="NVIDIA L4",
    compute_capability="8.9",
    options={"trt_profile_min_shapes": "x:1x4"},
    shapes={"x": "1x4:4x4:8x4"},
)


def built(home: Path, key: EngineKey = KEY, content: bytes = b"engine") -> KeptEngine:
    with building(key, home) as staging:
        (staging / "graph_0.engine").write_bytes(content)
        (staging / "graph_0.profile").write_bytes(b"profile")
        return keep(staging, key, 1234.5, home)


def test_an_engine_is_found_again_with_the_time_that_it_took(tmp_path: Path) -> None:
    assert find_engine(KEY, tmp_path) is None
    made = built(tmp_path)
    assert find_engine(KEY, tmp_path) == made == KeptEngine(tmp_path / KEY.digest, 1234.5)
    assert (made.directory / "graph_0.engine").read_bytes() == b"engine"
    assert [p.name for p in tmp_path.iterdir()] == [KEY.digest]


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "ac"},
        {"onnxruntime": "1.31.2"},
        {"tensorrt": "10.13.3"},
        {"driver": "581.0"},
        {"gpu": "NVIDIA L40"},
        {"compute_capability": "9.0"},
        {"options": {"trt_profile_min_shapes": "x:2x4"}},
        {"shapes": {"x": "1x4:8x4:8x4"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_engine_of_another_key_is_not_used(tmp_path: Path, change: dict[str, object]) -> None:
    built(tmp_path)
    other = replace(KEY, **change)  # type: ignore[arg-type]
    assert other.digest != KEY.digest
    assert find_engine(other, tmp_path) is None
    assert find_engine(KEY, tmp_path) is not None


def test_an_engine_moved_to_another_keys_place_is_refused_and_removed(tmp_path: Path) -> None:
    other = replace(KEY, driver="581.0")
    built(tmp_path).directory.rename(tmp_path / other.digest)
    assert find_engine(other, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "spoil", ["changed", "added", "removed", "no manifest", "manifest of garbage", "a list", "no time"]
)
def test_an_engine_that_is_not_as_it_was_built_is_refused_and_removed(tmp_path: Path, spoil: str) -> None:
    directory = built(tmp_path).directory
    manifest = directory / "engine.json"
    held = json.loads(manifest.read_text())
    {
        "changed": lambda: (directory / "graph_0.engine").write_bytes(b"enginE"),
        "added": lambda: (directory / "graph_1.engine").write_bytes(b"more"),
        "removed": lambda: (directory / "graph_0.profile").unlink(),
        "no manifest": manifest.unlink,
        "manifest of garbage": lambda: manifest.write_text("{"),
        "a list": lambda: manifest.write_text("[]"),
        "no time": lambda: manifest.write_text(json.dumps({**held, "build_ms": None})),
    }[spoil]()
    assert find_engine(KEY, tmp_path) is None
    assert not directory.exists()


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with building(KEY, tmp_path) as staging:
            (staging / "graph_0.engine").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".abc.99999999.tmp").mkdir()
    with building(KEY, tmp_path):
        assert [p.name for p in tmp_path.iterdir()] != [".abc.99999999.tmp"]
    assert list(tmp_path.iterdir()) == []


def test_of_two_builds_the_first_is_kept(tmp_path: Path) -> None:
    with building(KEY, tmp_path) as staging:
        (staging / "graph_0.engine").write_bytes(b"second")
        built_elsewhere = staging.rename(tmp_path / "elsewhere")
        built(tmp_path, content=b"first")
        built_elsewhere.rename(staging)
        kept = keep(staging, KEY, 2.0, tmp_path)
    assert (kept.directory / "graph_0.engine").read_bytes() == b"first"
    assert find_engine(KEY, tmp_path) is not None


def test_a_broken_engine_in_the_way_is_replaced(tmp_path: Path) -> None:
    (tmp_path / KEY.digest).mkdir()
    (tmp_path / KEY.digest / "rest").write_bytes(b"x")
    assert find_engine(KEY, tmp_path) is None
    assert built(tmp_path) == find_engine(KEY, tmp_path)


def test_timings_are_shared_by_models_but_not_by_machines() -> None:
    assert replace(KEY, model_sha256="x", shapes={}, options={}).machine_digest == KEY.machine_digest
    assert replace(KEY, driver="x").machine_digest != KEY.machine_digest
