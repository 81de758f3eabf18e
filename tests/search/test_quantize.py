"""`quantize_model`: what it promises of any file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.data.split import Split
from edgekit.errors import BusyError, CompressError, DataError, ModelError, OutputError
from edgekit.files import locked
from edgekit.ort import Session
from edgekit.search import QuantizeRequest, quantize_model
from edgekit.search.attempt import objection_to_quality
from edgekit.search.proof import Quality
from edgekit.tasks import find_metric
from tests.search.models import classes_of, conv_net, elementwise, images

QUICK = {"threads": 1, "seconds": 0.05}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return conv_net(tmp_path / "model.onnx")


def labelled(model: Path, count: int = 64) -> Split:
    inputs = images(count, seed=2)
    return Split("validation", {"x": inputs}, classes_of(model, inputs))


def test_the_report_keeps_the_contract(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    calibration = Split("calibration", {"x": images(64)})
    request = QuantizeRequest(model, out, "static", calibration, labelled(model), None, find_metric("top1"), **QUICK)
    report = json.loads(json.dumps(quantize_model(request).as_dict()))
    assert report["status"] == "ok"
    assert report["method"] == "static"
    assert report["size_bytes"]["before"] == model.stat().st_size
    assert report["size_bytes"]["after"] == out.stat().st_size < 0.35 * model.stat().st_size
    assert report["metric"]["name"] == "top1"
    assert report["metric"]["before"] == 1.0
    assert report["metric"]["drop"] == pytest.approx(1.0 - report["metric"]["after"])
    assert report["metric"]["proxy"] is False
    assert {"before", "after", "speedup", "ci95"} <= report["latency_ms"].keys()
    assert isinstance(report["excluded_nodes"], list)
    assert report["seconds"] > 0
    assert report["peak_rss_bytes"] > 10_000_000


def test_inputs_outputs_and_metadata_are_kept(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    quantize_model(QuantizeRequest(model, out, "weights", **QUICK))
    before, after = onnx.load(str(model)), onnx.load(str(out))
    assert [i.SerializeToString() for i in before.graph.input] == [i.SerializeToString() for i in after.graph.input]
    assert [o.name for o in before.graph.output] == [o.name for o in after.graph.output]
    assert [(p.key, p.value) for p in after.metadata_props] == [("owner", "somebody")]
    x = images(4)
    wanted, got = (Session(p, threads=1).run({"x": x})[0] for p in (model, out))
    assert np.abs(wanted - got).max() < 0.02 * np.abs(wanted).max()


def test_nothing_to_gain_is_an_answer(tmp_path: Path) -> None:
    model, out = elementwise(tmp_path / "model.onnx"), tmp_path / "q.onnx"
    report = quantize_model(QuantizeRequest(model, out, **QUICK))
    assert report.status == "unchanged"
    assert report.method == "none"
    assert "nothing to quantise" in report.reason
    assert out.read_bytes() == model.read_bytes()


def test_without_labels_agreement_is_marked_as_a_proxy(model: Path, tmp_path: Path) -> None:
    calibration = Split("calibration", {"x": images(32)})
    report = quantize_model(QuantizeRequest(model, tmp_path / "q.onnx", calibration=calibration, **QUICK))
    assert report.proof.quality.proxy is True
    assert report.proof.quality.name == "agreement"
    assert report.floor_met is None
    names = {a.candidate.name for a in report.attempts}
    assert names == {"static + weights", "static + weights, qoperator", "dynamic", "weights"}


def test_a_floor_that_cannot_be_met_keeps_the_best_so_far(model: Path, tmp_path: Path) -> None:
    wrong = labelled(model)
    inputs = wrong.arrays["x"]
    evaluation = Split("validation", {"x": inputs}, wrong.labels)
    out = tmp_path / "q.onnx"
    request = QuantizeRequest(
        model, out, "static", Split("c", {"x": images(8)}), evaluation, None, find_metric("top1"), -1.0, **QUICK
    )
    report = quantize_model(request)
    assert report.floor_met is False
    assert out.is_file()
    Session(out, threads=1).run({"x": inputs[:1]})


def test_nodes_that_cost_accuracy_stay_in_float_and_are_named(tmp_path: Path) -> None:
    model = conv_net(tmp_path / "model.onnx", outlier=300.0)
    evaluation = labelled(model, 256)
    calibration = Split("calibration", {"x": images(64)})
    request = QuantizeRequest(
        model, tmp_path / "q.onnx", "static", calibration, evaluation, None, find_metric("top1"), **QUICK
    )
    plain = quantize_model(request).proof.quality.drop
    floored = quantize_model(
        QuantizeRequest(
            model, tmp_path / "f.onnx", "auto", calibration, evaluation, None, find_metric("top1"), 0.0, **QUICK
        )
    )
    assert floored.proof.quality.drop <= max(0.0, plain)
    static = next(a for a in floored.attempts if a.candidate.name.startswith("static"))
    if "kept_in_float" in static.details:
        kept = static.details["kept_in_float"]
        assert len(kept["evaluations"]) <= 15
        assert set(kept["nodes"]) <= {"conv1", "conv2", "head", "pool"}
        assert "in float they cost" in kept["summary"]


def test_the_working_directory_goes_when_the_work_is_done(model: Path, tmp_path: Path) -> None:
    quantize_model(QuantizeRequest(model, tmp_path / "q.onnx", "weights", **QUICK))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "q.onnx"]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"method": "statik"}, CompressError, "did you mean 'static'?"),
        ({"method": "static"}, CompressError, "calibration"),
        ({"calibration": Split("c", {"y": images(4)[:, 0]})}, DataError, "does not fit"),
        (
            {"calibration": Split("c", {"x": images(4), "z": images(4)})},
            DataError,
            "the model wants x; the data has x, z",
        ),
        ({"calibration": Split("c", {"x": images(0)})}, DataError, "no samples"),
        (
            {"calibration": Split("c", {"x": np.full((2, 3, 16, 16), np.nan, np.float32)})},
            DataError,
            "sample 0 holds NaN",
        ),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    model: Path, tmp_path: Path, change: dict[str, object], kind: type[Exception], words: str
) -> None:
    request = QuantizeRequest(**{"model": model, "out": tmp_path / "q.onnx", **QUICK, **change})  # type: ignore[arg-type]
    with pytest.raises(kind) as caught:
        quantize_model(request)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx"], "nothing was left behind"


def test_the_input_is_never_overwritten(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    for out in (model, link):
        with pytest.raises(OutputError, match="never overwrites its input"):
            quantize_model(QuantizeRequest(model, out, "weights", **QUICK))
    assert model.read_bytes() == before


def test_weights_that_are_not_finite_are_named(model: Path, tmp_path: Path) -> None:
    broken = onnx.load(str(model))
    weight = onnx.numpy_helper.to_array(broken.graph.initializer[1]).copy()
    weight[0, 0, 0, 0] = np.nan
    broken.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(weight, "w2"))
    onnx.save(broken, str(model))
    with pytest.raises(ModelError, match="weight 'w2' holds 1 values that are NaN or Inf"):
        quantize_model(QuantizeRequest(model, tmp_path / "q.onnx", "weights", **QUICK))


def test_a_second_edgekit_on_the_same_output_is_told_it_is_busy(model: Path, tmp_path: Path) -> None:
    with locked(tmp_path / ".q.onnx.edgekit"), pytest.raises(BusyError, match="is busy"):
        quantize_model(QuantizeRequest(model, tmp_path / "q.onnx", "weights", **QUICK))


def test_floors_are_points_of_a_share_and_parts_of_anything_else() -> None:
    def quality(name: str, before: float, after: float, drop: float, *, share: bool) -> Quality:
        return Quality(name, before, after, drop, None, False, 100, "d", share)

    request = QuantizeRequest(Path("m"), Path("o"))
    assert objection_to_quality(quality("top1", 0.9, 0.891, 0.009, share=True), request) == ""
    assert "at most 1 %" in objection_to_quality(quality("top1", 0.9, 0.88, 0.02, share=True), request)
    assert objection_to_quality(quality("perplexity", 35.2, 36.9, 1.7, share=False), request) == ""
    assert "at most 5 %" in objection_to_quality(quality("perplexity", 35.2, 42.0, 6.8, share=False), request)
