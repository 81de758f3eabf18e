from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.bench import BenchRequest, Speedup, Verdict, optimized
from edgekit.bench import tune as module
from edgekit.bench.candidates import Change, Objective
from edgekit.bench.optimized import OptimizedFile, find_optimized, keep_optimized, save_optimized
from edgekit.bench.tune import Trial, TuneInterrupted, tune
from edgekit.bench.tuned import read_options
from edgekit.errors import ModelError
from edgekit.ort import Session, SessionOptions
from edgekit.specs import Feeds

from .conftest import Maker

REQUEST = BenchRequest(threads=1)
BASIC = Change("basic", {"graph_optimization_level": "ORT_ENABLE_BASIC"})
ARENA = Change("no arena", {"enable_cpu_mem_arena": False})
FILE = "optimised model file"


def _feeds(session: Session) -> Feeds:
    return {"x": np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)}


@pytest.fixture
def kept(chain: Maker, tmp_path: Path) -> tuple[Path, Path, OptimizedFile]:
    """A model, the place of its session options, and the record of its optimised file."""
    model, options = chain(16), tmp_path / "o.json"
    save_optimized(model, tmp_path / "draft.onnx", threads=1, feeds=_feeds)
    return model, options, keep_optimized(tmp_path / "draft.onnx", model, tmp_path / "o.optimized.onnx")


def test_the_optimised_file_answers_in_the_same_bits_and_is_fused(kept: tuple[Path, Path, OptimizedFile]) -> None:
    model, options, record = kept
    place = find_optimized(record, options, [model], ["cpu"])
    nodes = [node.op_type for node in onnx.load(place).graph.node]
    assert "FusedMatMul" in nodes or len(nodes) <= len(onnx.load(model).graph.node)
    original = Session(model, threads=1)
    optimised = Session(model, threads=1, tuned=SessionOptions(optimized_model=str(place)))
    feeds = _feeds(original)
    assert original.run(feeds)[0].tobytes() == optimised.run(feeds)[0].tobytes()
    assert optimised.inputs == original.inputs
    assert record.size_bytes == place.stat().st_size


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"onnxruntime": "1.2.3"}, "was made by ONNX Runtime 1.2.3, and this is "),
        ({"cpu_features": ["AVX9"]}, "was made for another CPU: x86_64 with AVX9, and this is "),
        ({"architecture": "vax"}, "was made for another CPU: vax"),
        ({"original_sha256": "0"}, "was made of another model than "),
        ({"sha256": "0"}, "was changed since it was proven"),
        ({"file": "gone.onnx"}, "is not there"),
    ],
)
def test_a_file_that_is_for_something_else_is_refused(
    kept: tuple[Path, Path, OptimizedFile], monkeypatch: pytest.MonkeyPatch, change: dict[str, object], told: str
) -> None:
    model, options, record = kept
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("edgekit.bench.optimized._features", lambda: record.cpu_features)
    right = record.model_copy(update={"architecture": "x86_64"})
    assert find_optimized(right, options, [model], ["cpu"]).name == "o.optimized.onnx"
    with pytest.raises(ModelError) as refused:
        find_optimized(right.model_copy(update=change), options, [model], ["cpu"])
    assert told in str(refused.value)
    assert "--tune --objective session_ms --out" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_it_is_for_one_model_and_for_the_cpu(kept: tuple[Path, Path, OptimizedFile], chain: Maker) -> None:
    model, options, record = kept
    options.write_text(json.dumps({"optimized_model": record.model_dump(), "threads": 1}))
    assert read_options(options, [model]) == SessionOptions(
        threads=1, optimized_model=str((options.parent / record.file).resolve())
    )
    with pytest.raises(ModelError, match=r"was made of another model than .*other\.onnx"):
        read_options(options, [model, chain(16, 5, name="other")])
    with pytest.raises(ModelError, match="for the provider cpu, not for cuda"):
        read_options(options, [model], ["cuda"])
    model.write_bytes(chain(16, 6, name="newer").read_bytes())
    with pytest.raises(ModelError, match="was made of another model than"):
        read_options(options, [model])


@pytest.mark.parametrize("name", ["../o.onnx", "/o.onnx", "a\\b", "", ".."])
def test_its_name_leads_to_no_other_directory(kept: tuple[Path, Path, OptimizedFile], name: str) -> None:
    model, options, record = kept
    options.write_text(json.dumps({"optimized_model": {**record.model_dump(), "file": name}}))
    with pytest.raises(ModelError, match=r"optimized_model\.file"):
        read_options(options, [model])


def test_external_data_is_part_of_the_original(chain: Maker, tmp_path: Path) -> None:
    model, place = tmp_path / "e.onnx", tmp_path / "o.onnx"
    onnx.save(onnx.load(chain(16)), model, save_as_external_data=True, location="w.bin", size_threshold=0)
    save_optimized(model, tmp_path / "draft.onnx", threads=1, feeds=_feeds)
    record = keep_optimized(tmp_path / "draft.onnx", model, place)
    assert find_optimized(record, tmp_path / "o.json", [model], ["cpu"]) == place.resolve()
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    with pytest.raises(ModelError, match="was made of another model"):
        find_optimized(record, tmp_path / "o.json", [model], ["cpu"])


def test_a_file_that_answers_otherwise_is_no_option(
    chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(place: Path, model: Path) -> None:
        place.write_bytes(chain(16, 5, name="other").read_bytes())

    monkeypatch.setattr(optimized, "_embed_data", spoil)
    with pytest.raises(ModelError, match="its outputs differ from the model's"):
        save_optimized(chain(16), tmp_path / "o.onnx", threads=1, feeds=_feeds)


def test_what_no_single_file_can_hold_is_not_tried(
    chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimized, "_MOST_BYTES", 1000)
    with pytest.raises(ModelError, match=r"chain\.onnx has [\d,]+ bytes, and one file holds at most 1,000"):
        save_optimized(chain(16), tmp_path / "o.onnx", threads=1, feeds=_feeds)
    assert not (tmp_path / "o.onnx").exists()


def _answer(monkeypatch: pytest.MonkeyPatch, changes: list[Change], answers: Callable[[str], Verdict]) -> list[str]:
    asked: list[str] = []

    def compare(self: object, title: str, before: SessionOptions, after: SessionOptions, seconds: float) -> Trial:
        asked.append(title)
        found = answers(title)
        return Trial(title, 3.0, 2.0, Speedup(1.5, (1.4, 1.6), 20), found, kept=False)

    monkeypatch.setattr(module._Bench, "compare", compare)
    monkeypatch.setattr(module, "candidates", lambda *_: changes)
    return asked


def test_tuning_keeps_the_file_that_is_proven(chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answer(monkeypatch, [BASIC], lambda _: Verdict.FASTER)
    model, place = chain(16), tmp_path / "kept" / "o.optimized.onnx"
    report = tune(model, REQUEST, objective=Objective.SESSION_MS, optimized=place)
    # a level of optimisation means nothing to what is optimised already
    assert asked == [FILE, "proof: defaults against what was kept"]
    assert report.options == SessionOptions(optimized_model=str(place))
    assert not any("runs may take longer" in note for note in report.notes)
    document = json.loads(json.dumps(report.as_dict()))
    assert document["session_options"] == {}
    assert document["optimized_model"]["file"] == "o.optimized.onnx"
    options = place.with_name("o.json")
    options.write_text(json.dumps(document))
    assert read_options(options, [model]).optimized_model == str(place.resolve())
    assert sorted(p.name for p in place.parent.iterdir()) == ["o.json", "o.optimized.onnx"]


@pytest.mark.parametrize("proof", [True, False])
def test_what_is_not_proven_leaves_no_file(
    chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: bool
) -> None:
    _answer(monkeypatch, [], lambda title: Verdict.FASTER if proof and title == FILE else Verdict.NO_DIFFERENCE)
    place = tmp_path / "o.optimized.onnx"
    report = tune(chain(16), REQUEST, objective=Objective.SESSION_MS, optimized=place)
    assert (report.options, report.optimized, place.exists()) == (SessionOptions(), None, False)
    assert report.as_dict()["optimized_model"] is None


def test_an_interruption_leaves_no_file(chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(title: str) -> Verdict:
        if title == "no arena":
            raise KeyboardInterrupt
        return Verdict.FASTER

    _answer(monkeypatch, [ARENA], answers)
    place = tmp_path / "o.optimized.onnx"
    with pytest.raises(TuneInterrupted) as stop:
        tune(chain(16), REQUEST, objective=Objective.SESSION_MS, optimized=place)
    assert stop.value.report.options == SessionOptions()
    assert "the optimised model file was not proven and is not kept" in stop.value.report.notes
    assert not place.exists()


def test_it_is_tried_only_where_it_can_be_kept_and_for_what_it_helps(
    chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _answer(monkeypatch, [], lambda _: Verdict.NO_DIFFERENCE)
    report = tune(chain(16), REQUEST, objective=Objective.SESSION_MS)
    assert "an optimised model file was not tried: that takes --out" in report.notes[0]
    tune(chain(16), REQUEST, objective=Objective.LATENCY, optimized=tmp_path / "o.onnx")
    assert asked == []


def test_changes_go_with_an_optimised_file_or_are_left_out() -> None:
    optimised = SessionOptions(optimized_model="/some/where/o.onnx")
    assert not BASIC.matters_to(optimised)
    assert ARENA.matters_to(optimised)
    assert str(replace(optimised, threads=2)) == "optimized_model=o.onnx, threads=2"
