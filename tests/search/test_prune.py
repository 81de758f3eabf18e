from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig
from edgekit.errors import CompressError, ModelError, OutputError
from edgekit.graph.read import read_model
from edgekit.search import prune
from edgekit.search.proof import Judge, Latency
from edgekit.search.prune import PruneRequest, prune_model
from edgekit.tasks import find_metric
from tests.compress.prune.graph.nets import images, labelled, redundant


@pytest.fixture
def request_(tmp_path: Path) -> PruneRequest:
    model = tmp_path / "model.onnx"
    onnx.save(redundant(), model)
    original = read_model(model)
    return PruneRequest(
        model=model,
        out=tmp_path / "out.onnx",
        config=OnnxChannelsConfig(macs=2.0),
        data=images(128),
        evaluation=labelled(original, 200, seed=5),
        test=labelled(original, 200, seed=6),
        metric=find_metric("top1"),
        seconds=0.05,
    )


def test_a_proof_beside_the_smaller_file(request_: PruneRequest) -> None:
    report = prune_model(replace(request_, max_drop=0.2))
    found = report.as_dict()
    assert (found["status"], found["method"], found["floor_met"]) == ("ok", "channels", True)
    assert found["macs"]["before"] >= 2 * found["macs"]["after"]
    assert found["size_bytes"]["after"] == request_.out.stat().st_size < found["size_bytes"]["before"]
    assert found["metric"]["before"] == 1.0
    assert found["metric"]["drop"] == pytest.approx(1 - found["metric"]["after"])
    assert not found["metric"]["proxy"]
    assert found["test_metric"]["n"] == 200
    assert {"before", "after", "speedup"} <= set(found["latency_ms"])
    assert "x fewer multiply-accumulates" in found["reason"]
    assert {g["layer"] for g in found["groups"]} <= {"conv0", "conv2"}


def test_what_loses_too_much_is_not_taken(request_: PruneRequest) -> None:
    config = OnnxChannelsConfig(ratio=0.5, allocation="layer", importance="l1", reconstruct=False)
    report = prune_model(replace(request_, config=config, max_drop=0.0))
    assert report.status == "unchanged"
    assert report.floor_met is False
    assert "top1 drops by" in report.reason
    assert report.reason.endswith("more than 0; the original is kept")
    assert request_.out.read_bytes() == request_.model.read_bytes()


def test_without_labels_agreement_is_told(request_: PruneRequest) -> None:
    report = prune_model(replace(request_, evaluation=None, test=None, metric=None))
    assert (report.proof.quality.name, report.proof.quality.proxy) == ("agreement", True)
    assert report.test is None


def test_without_any_data(request_: PruneRequest) -> None:
    bare = replace(request_, data=None, evaluation=None, test=None, metric=None, config=OnnxChannelsConfig(ratio=0.3))
    report = prune_model(bare)
    assert report.pruned.wish.importance == "l2"
    assert report.pruned.parameters[1] < report.pruned.parameters[0]


def test_a_great_loss_is_told_where_no_floor_was_set(request_: PruneRequest) -> None:
    config = OnnxChannelsConfig(ratio=0.6, importance="l1")
    report = prune_model(replace(request_, config=config, data=None))
    assert report.status == "ok"
    assert "top1 drops by" in report.reason
    assert report.reason.endswith(
        "give --data, so that layers are fitted, or ask for less, and --max-drop refuses such a file"
    )


def test_a_floor_alone_asks_for_the_smallest_that_keeps_it(request_: PruneRequest) -> None:
    report = prune_model(replace(request_, config=OnnxChannelsConfig(), max_drop=0.05))
    assert report.status == "ok"
    assert report.proof.quality.drop <= 0.05
    assert report.pruned.macs[0] > 1.5 * report.pruned.macs[1]


def timed(monkeypatch: pytest.MonkeyPatch, most: float) -> None:
    """Files are as much faster as they are smaller, up to a limit."""

    def compare(one: Path, other: Path, feeds: Any, **how: Any) -> Any:
        ratio = min(one.stat().st_size / other.stat().st_size, most)
        return SimpleNamespace(speedup=SimpleNamespace(ratio=ratio))

    monkeypatch.setattr(prune, "compare_latency", compare)


def test_the_least_pruning_that_is_fast_enough(request_: PruneRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 100.0)
    report = prune_model(replace(request_, config=OnnxChannelsConfig(), latency=1.5))
    assert 1.5 <= report.proof.size_ratio < 2.5


def test_a_gain_that_is_not_there_when_measured_again(request_: PruneRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 100.0)
    found = Latency(1.0, 0.8, 1.25, (1.2, 1.3), "FASTER")
    monkeypatch.setattr(Judge, "latency", lambda self, candidate: found)
    report = prune_model(replace(request_, config=OnnxChannelsConfig(), latency=1.5))
    assert report.status == "unchanged"
    assert report.reason.startswith("only 1.25x as fast when measured again, and 1.5x was asked for")
    assert request_.out.read_bytes() == request_.model.read_bytes()


def test_what_cannot_be_made_fast_enough(request_: PruneRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 1.1)
    with pytest.raises(CompressError, match=r"no pruning was measured to be 1.5x as fast; ask for less, or quantise"):
        prune_model(replace(request_, config=OnnxChannelsConfig(), latency=1.5))
    assert not request_.out.exists()


def test_paths_that_cannot_be(request_: PruneRequest) -> None:
    with pytest.raises(OutputError, match="never overwrites its input"):
        prune_model(replace(request_, out=request_.model))
    with pytest.raises(ModelError, match="is not there"):
        prune_model(replace(request_, model=request_.model.with_name("no.onnx")))
