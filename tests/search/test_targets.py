"""What each target gets: operators and types of the written file, and figures that do not pretend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress import Target
from edgekit.data.split import Split
from edgekit.graph.read import every_node
from edgekit.search import QuantizeReport, QuantizeRequest, place, quantize_model
from edgekit.search.candidates import candidates
from edgekit.search.place import Place, place_of
from tests.search.models import conv_net, images

QUICK = {"threads": 1, "seconds": 0.05}


def quantise(tmp_path: Path, target: Target, method: str = "auto") -> tuple[QuantizeReport, onnx.ModelProto]:
    model, out = conv_net(tmp_path / "model.onnx"), tmp_path / "q.onnx"
    calibration = Split("calibration", {"x": images(32)})
    report = quantize_model(QuantizeRequest(model, out, method, calibration, target=target, **QUICK))
    assert report.status == "ok"
    return report, onnx.load(str(out))


def product_net(path: Path) -> Path:
    """Embedding, two products with a Relu, logits: (batch, length) ids -> (batch, length, 40)."""
    rng = np.random.default_rng(0)
    shapes = {"table": (200, 64), "up": (64, 128), "down": (128, 40)}
    weights = [
        numpy_helper.from_array((rng.standard_normal(s) / np.sqrt(s[0])).astype(np.float32), name)
        for name, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"], name="look"),
        helper.make_node("MatMul", ["a", "up"], ["b"], name="widen"),
        helper.make_node("Relu", ["b"], ["c"], name="relu"),
        helper.make_node("MatMul", ["c", "down"], ["y"], name="narrow"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 40])
    graph = helper.make_graph(nodes, "g", [ids], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def domains(model: onnx.ModelProto) -> set[str]:
    return {n.domain for n in every_node(model)} | {o.domain for o in model.opset_import}


def zero_points(model: onnx.ModelProto) -> list[np.ndarray]:
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    return [values[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("method", ["auto", "static", "dynamic", "weights", "int4"])
def test_web_files_hold_standard_operators_only(tmp_path: Path, method: str) -> None:
    model, out = product_net(tmp_path / "model.onnx"), tmp_path / "q.onnx"
    data = Split("calibration", {"ids": np.random.default_rng(1).integers(0, 200, (24, 12))})
    report = quantize_model(QuantizeRequest(model, out, method, data, target="web", **QUICK))
    written = onnx.load(str(out))
    assert domains(written) == {""}
    assert "not in a browser" in report.reason
    if method == "dynamic":
        assert {"DynamicQuantizeLinear", "MatMulInteger"} <= {n.op_type for n in written.graph.node}
    if method == "static":
        assert {z.dtype for z in zero_points(written)} == {np.dtype(np.uint8)}


def test_web_gets_no_operators_on_integers(tmp_path: Path) -> None:
    report, written = quantise(tmp_path, "web")
    assert domains(written) == {""}
    assert not any("qoperator" in a.candidate.name for a in report.attempts)


@pytest.mark.skipif(place.is_arm(), reason="latency can be measured here")
def test_arm_gets_signed_activations_and_no_latency_of_another_machine(tmp_path: Path) -> None:
    report, written = quantise(tmp_path, "arm")
    kinds = {n.op_type for n in written.graph.node}
    assert {z.dtype for z in zero_points(written)} == {np.dtype(np.int8)}
    assert {"QLinearConv", "Conv"} & kinds
    assert report.proof.latency.verdict.startswith("not measured: target arm is not this machine")
    assert report.proof.latency.speedup is None


def test_arm_files_of_pairs_are_signed_at_full_range(tmp_path: Path) -> None:
    _, written = quantise(tmp_path, "arm", "static")
    values = [numpy_helper.to_array(i) for i in written.graph.initializer]
    assert {z.dtype for z in zero_points(written)} == {np.dtype(np.int8)}
    assert max(np.abs(v.astype(int)).max() for v in values if v.dtype == np.int8 and v.ndim > 1) == 127
    assert domains(written) == {""}


@pytest.mark.skipif(place.provider_runs("cuda"), reason="latency can be measured here")
def test_cuda_gets_float16_and_dynamic_is_refused_with_the_reason(tmp_path: Path) -> None:
    report, written = quantise(tmp_path, "cuda")
    assert report.method == "fp16"
    weights = {i.data_type for i in written.graph.initializer if len(i.dims) > 1}
    assert weights == {TensorProto.FLOAT16}
    assert domains(written) == {""}
    refused = next(a for a in report.attempts if a.candidate.name == "dynamic")
    assert "dynamic int8 is refused for cuda" in refused.outcome
    latency = report.as_dict()["latency_ms"]
    assert latency["verdict"] == "not measured: provider cuda is not on this machine"
    assert [latency[k] for k in ("before", "after", "speedup", "ci95")] == [None] * 4
    assert "accuracy computed on the CPU" in report.reason


@pytest.mark.skipif(place.provider_runs("tensorrt"), reason="latency can be measured here")
def test_tensorrt_gets_symmetric_pairs_without_contrib_operators(tmp_path: Path) -> None:
    report, written = quantise(tmp_path, "tensorrt")
    assert report.method == "static + weights"
    assert domains(written) == {""}
    found = zero_points(written)
    assert {z.dtype for z in found} == {np.dtype(np.int8)}
    assert not any(z.any() for z in found)
    assert "MatMulInteger" not in {n.op_type for n in written.graph.node}
    assert report.proof.latency.verdict == "not measured: provider tensorrt is not on this machine"


def test_cpu_takes_operators_on_integers_where_they_are_smaller(tmp_path: Path) -> None:
    report, _ = quantise(tmp_path, "cpu")
    tried = {a.candidate.name: a for a in report.attempts}
    pairs, integers = tried["static + weights"], tried["static + weights, qoperator"]
    assert pairs.proof is not None
    assert integers.proof is not None
    assert integers.proof.size_after < 0.98 * pairs.proof.size_after
    assert integers.proof.quality == pairs.proof.quality
    assert integers.details["format"] == "qoperator"


def test_a_target_that_is_here_needs_no_caveat() -> None:
    assert place_of("cpu") == Place()
    assert place_of("cpu").said == ""


def test_a_caveat_where_the_machine_is_better_than_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "has_vnni", lambda: True)
    assert "with VNNI" in place_of("cpu-no-vnni").said
    monkeypatch.setattr(place, "has_vnni", lambda: False)
    assert place_of("cpu-no-vnni").said == ""


def test_a_provider_that_is_here_is_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "provider_runs", lambda _: True)
    assert place_of("cuda") == Place("cuda")


def test_graphics_processors_try_weights_alone_last(tmp_path: Path) -> None:
    request = QuantizeRequest(conv_net(tmp_path / "m.onnx"), tmp_path / "q.onnx", target="cuda")
    found = candidates(request, is_language_model=False)
    assert [(c.name, c.fallback) for c in found] == [("fp16", False), ("dynamic", False), ("weights", True)]
