from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from pydantic import ValidationError

from edgekit.compress.quantize.pooling import pool_by_mean
from edgekit.compress.quantize.static import CalibrationConfig, StaticConfig, prepare, quantize_static
from edgekit.compress.technique import TECHNIQUES, OnnxStep, StepResult
from edgekit.data.split import Split
from edgekit.errors import CompressError
from edgekit.ort import require_ort
from tests.compress.quantize.nets import Net, images, mobile_block, normal, run, snr_db


def quantise(
    model: onnx.ModelProto, data: Split | None, tmp_path: Path, config: StaticConfig | None = None, **step: object
) -> tuple[StepResult, onnx.ModelProto]:
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    source.write_bytes(model.SerializeToString())
    result = quantize_static(config or StaticConfig(), OnnxStep(source, out, data, **step))  # type: ignore[arg-type]
    assert source.read_bytes() == model.SerializeToString()
    return result, onnx.load(out)


def quality_db(model: onnx.ModelProto, written: onnx.ModelProto) -> float:
    feeds = dict(images(64, seed=9).arrays)
    return snr_db(run(model, feeds)[0], run(written, feeds)[0])


def fused_ops(model: onnx.ModelProto, tmp_path: Path) -> Counter[str]:
    ort = require_ort()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node)


def test_it_is_registered_with_its_defaults() -> None:
    registered = TECHNIQUES["quantize: static"]
    assert registered.stage == "onnx"
    assert registered.needs_calibration
    assert registered.config().calibration.samples == 512


def test_every_float_kernel_is_replaced(tmp_path: Path) -> None:
    model = mobile_block()
    result, written = quantise(model, images(64), tmp_path)
    assert result.changed
    assert result.details["nodes_int8"] == 8
    assert quality_db(model, written) > 30
    ops = fused_ops(written, tmp_path)
    assert ops["QLinearConv"] == 4
    assert ops["QLinearAdd"] == ops["QLinearGlobalAveragePool"] == ops["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "Relu", "Add", "DequantizeLinear"} & set(ops)


def test_the_file_holds_little_but_int8(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 256))
    hidden = net.add("Relu", net.add("Gemm", "x", normal(rng, 256, 256), normal(rng, 256)))
    model = net.model(net.add("Gemm", hidden, normal(rng, 256, 256), normal(rng, 256)))
    data = Split("x", {"x": rng.standard_normal((32, 256)).astype(np.float32)})
    _, written = quantise(model, data, tmp_path)
    assert len(model.SerializeToString()) / len(written.SerializeToString()) > 3.7
    assert not [i for i in written.graph.initializer if i.data_type == TensorProto.FLOAT and i.dims == [256, 256]]


def test_uneven_channels_are_equalised_when_they_need_it(tmp_path: Path) -> None:
    model = mobile_block(spread=2.5)
    kept = {}
    for wish in (False, "auto"):
        result, written = quantise(model, images(64), tmp_path, StaticConfig(equalize=wish))  # type: ignore[arg-type]
        kept[wish] = quality_db(model, written)
    assert result.details["equalised_tensors"] == 2
    assert kept[False] < 20
    assert kept["auto"] > 28
    even, _ = quantise(mobile_block(), images(64), tmp_path)
    assert even.details["equalised_tensors"] == 0


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_every_calibrator_keeps_the_output(tmp_path: Path, method: str) -> None:
    config = StaticConfig(calibration=CalibrationConfig(method=method, samples=32))  # type: ignore[arg-type]
    model = mobile_block()
    result, written = quantise(model, images(64), tmp_path, config)
    assert result.details["calibration_samples"] == 32
    assert quality_db(model, written) > 15


def test_relu6_is_folded_into_the_scale(tmp_path: Path) -> None:
    model = mobile_block(activation="Clip")
    _, written = quantise(model, images(64), tmp_path)
    assert "Clip" not in {n.op_type for n in written.graph.node}
    assert quality_db(model, written) > 28


@pytest.mark.parametrize(
    ("target", "kind", "peak", "bias"),
    [
        ("cpu", TensorProto.UINT8, 127, TensorProto.INT32),
        ("web", TensorProto.UINT8, 127, TensorProto.INT32),
        ("cpu-no-vnni", TensorProto.UINT8, 63, TensorProto.INT32),
        ("arm", TensorProto.INT8, 127, TensorProto.INT32),
        ("tensorrt", TensorProto.INT8, 127, TensorProto.FLOAT),
    ],
)
def test_targets(tmp_path: Path, target: str, kind: int, peak: int, bias: int) -> None:
    model = mobile_block()
    _, written = quantise(model, images(32), tmp_path, target=target)
    values = {i.name: onnx.numpy_helper.to_array(i) for i in written.graph.initializer}
    types = {i.name: i.data_type for i in written.graph.initializer}
    quantisers = [n for n in written.graph.node if n.op_type == "QuantizeLinear"]
    assert {types[n.input[2]] for n in quantisers} == {kind}
    weights = [v for v in values.values() if v.dtype == np.int8 and v.ndim > 1]
    peaks = {int(np.abs(w.astype(int)).max()) for w in weights}
    assert peak in peaks
    assert peaks <= {peak, 127}
    made_by = {n.output[0]: n for n in written.graph.node}
    convolution = next(n for n in written.graph.node if n.op_type == "Conv")
    reader = made_by.get(convolution.input[2])
    assert types[reader.input[0] if reader else convolution.input[2]] == bias
    if target == "tensorrt":
        assert not any(values[n.input[2]].any() for n in quantisers)
    assert quality_db(model, written) > (20 if peak == 63 else 25)


def test_a_mask_near_the_float_limits_stays_in_float(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 16), mask=("batch", 16))
    low = net.add("MatMul", net.add("Add", "x", "mask"), normal(rng, 16, 16))
    end = net.add("Add", net.add("MatMul", "x", normal(rng, 16, 16)), net.add("Softmax", low))
    mask = np.where(rng.random((32, 16)) < 0.2, np.finfo(np.float32).min, 0).astype(np.float32)
    data = Split("d", {"x": rng.standard_normal((32, 16)).astype(np.float32), "mask": mask})
    result, written = quantise(net.model(end), data, tmp_path)
    assert [(n.name, n.reason) for n in result.excluded_nodes] == [
        ("matmul1", "its activations reach the limits of float, as masks do")
    ]
    assert Counter(n.op_type for n in written.graph.node)["QuantizeLinear"] == 1


def test_the_fill_of_a_mask_becomes_one_that_softmax_is_fast_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 16))
    lowest = np.array(np.finfo(np.float32).min)
    masked = net.add("Where", net.add("Greater", "x", np.array(1, np.float32)), lowest, "x")
    model = net.model(net.add("MatMul", net.add("Softmax", masked), normal(rng, 16, 16)))
    data = Split("d", {"x": rng.standard_normal((32, 16)).astype(np.float32)})
    result, written = quantise(model, data, tmp_path)
    assert result.details["softened_masks"] == 1
    assert lowest not in [float(onnx.numpy_helper.to_array(i)) for i in written.graph.initializer if not i.dims]
    assert snr_db(run(model, dict(data.arrays))[0], run(written, dict(data.arrays))[0]) > 35


def test_names_and_metadata_of_the_model_are_kept(tmp_path: Path) -> None:
    model = mobile_block()
    onnx.helper.set_model_props(model, {"labels": "a,b"})
    _, written = quantise(model, images(16), tmp_path)
    assert {p.key: p.value for p in written.metadata_props} == {"labels": "a,b"}
    assert [i.name for i in written.graph.input] == ["image"]
    assert [o.name for o in written.graph.output] == [o.name for o in model.graph.output]
    assert written.ir_version == model.ir_version
    assert written.opset_import[0].version == 18


def test_nothing_to_quantise_copies_and_says_why(tmp_path: Path) -> None:
    net = Net(x=("batch", 4))
    model = net.model(net.add("Relu", "x"))
    result, written = quantise(model, Split("x", {"x": np.ones((4, 4), np.float32)}), tmp_path)
    assert not result.changed
    assert "no Conv, Gemm or MatMul" in result.reason
    assert written == model


def test_what_is_quantised_already_is_left_alone(tmp_path: Path) -> None:
    _, first = quantise(mobile_block(), images(16), tmp_path)
    result, again = quantise(first, images(16), tmp_path)
    assert not result.changed
    assert {n.reason for n in result.excluded_nodes} == {"already quantised"}
    assert again == first


def test_an_old_opset_is_raised(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 8))
    model = net.model(net.add("Gemm", "x", normal(rng, 8, 8), normal(rng, 8)), opset=9)
    _, written = quantise(model, Split("x", {"x": rng.standard_normal((8, 8)).astype("f")}), tmp_path)
    assert written.opset_import[0].version >= 13


def test_excluded_nodes_are_reported(tmp_path: Path) -> None:
    result, _ = quantise(mobile_block(), images(16), tmp_path, excluded=frozenset({"conv4"}))
    assert [(n.name, n.reason) for n in result.excluded_nodes] == [("conv4", "asked for")]


def test_data_is_needed_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="--calibration"):
        quantise(mobile_block(), None, tmp_path)
    with pytest.raises(ValidationError):
        StaticConfig(samples=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_the_image_becomes_a_pool(keepdims: int) -> None:
    net = Net(x=("batch", 3, 5, 7))
    model = net.model(net.add("ReduceMean", "x", np.array([-1, 2]), keepdims=keepdims), rank=4 if keepdims else 2)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)}
    expected = run(model, feeds)[0]
    pool_by_mean(model)
    assert model.graph.node[0].op_type == "GlobalAveragePool"
    np.testing.assert_allclose(run(model, feeds)[0], expected, atol=1e-6)


def test_a_mean_over_other_axes_stays() -> None:
    net = Net(x=("batch", 3, 5, 7))
    model = prepare(net.model(net.add("ReduceMean", "x", np.array([1, 2]), keepdims=1), rank=4))
    assert [n.op_type for n in model.graph.node] == ["ReduceMean"]
