from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit.compress.quantize.dynamic import DynamicConfig, quantize_dynamic
from edgekit.compress.quantize.moments import Observed
from edgekit.compress.quantize.smooth import predicted_noise
from edgekit.compress.technique import OnnxStep
from edgekit.data.split import Split
from edgekit.graph.masks import MASKED, find_masks, soften_masks
from edgekit.graph.normalise import normalise
from edgekit.graph.read import read_model
from tests.compress.quantize.test_weights import optimised_ops, snr_db
from tests.graph.test_normalise import branch, build, run
from tests.noise import floats


def apply(model, tmp_path, config=None, **step):
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    source.write_bytes(model.SerializeToString())
    result = quantize_dynamic(config or DynamicConfig(), OnnxStep(source, out, **step))
    return result, read_model(out), source.stat().st_size / out.stat().st_size


def attention(table=True):
    """Three products of one value, an embedding, a mask and an output product with bias."""
    width = 64
    nodes = [
        helper.make_node("Cast", ["ids"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["e"]),
        *[helper.make_node("MatMul", ["e", f"w{k}"], [k]) for k in "qkv"],
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Cast", ["keep"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("Where", ["flag", "zero", "lowest"], ["m"]),
        helper.make_node("Add", ["s", "m"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["c"]),
        helper.make_node("MatMul", ["c", "wo"], ["o"]),
        helper.make_node("Add", ["o", "b"], ["y"]),
    ]
    weights = {f"w{k}": floats(width, width) / 8 for k in "qkvo"} | {"table": floats(300, width), "b": floats(width)}
    weights |= {"zero": np.float32(0), "lowest": np.float32(np.finfo(np.float32).min)}
    model = build(nodes, {"ids": ["n", 6], "keep": ["n", 1, 6]}, {"y": ["n", 6, width]}, weights)
    keep = np.ones((4, 1, 6), np.float32)
    keep[:, :, 4:] = 0
    feeds = {"ids": np.arange(24, dtype=np.float32).reshape(4, 6), "keep": keep}
    return model, feeds


def test_products_fuse_share_their_input_and_tables_stay_int8(tmp_path):
    model, feeds = attention()
    result, out, ratio = apply(model, tmp_path)
    assert result.changed
    assert ratio > 3.3
    assert (result.details["int8_products"], result.details["int8_lookups"]) == (4, 1)
    assert [n.op_type for n in out.graph.node].count("DynamicQuantizeLinear") == 2  # one for query, key and value
    ops = optimised_ops(out, tmp_path)
    assert ops.count("MatMulIntegerToFloat") == 3
    assert ops.count("DynamicQuantizeMatMul") == 1
    assert "MatMulInteger" not in ops
    assert snr_db(model, out, feeds) > 30
    assert list(out.graph.output) == list(model.graph.output)


def test_it_computes_what_the_reference_says(tmp_path):
    weight, x = floats(64, 32), floats(3, 64)
    model = build([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [3, 64]}, {"y": [3, 32]}, {"w": weight})
    _, out, _ = apply(model, tmp_path)
    low, high = min(x.min(), 0), max(x.max(), 0)
    step = (high - low) / 255
    zero = np.clip(np.rint(-low / step), 0, 255)
    seen = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
    q = next(i for i in out.graph.initializer if i.data_type == TensorProto.INT8)
    scale = next(i for i in out.graph.initializer if i.data_type == TensorProto.FLOAT)
    from onnx import numpy_helper

    stored = numpy_helper.to_array(q) * numpy_helper.to_array(scale).reshape(1, -1)
    np.testing.assert_allclose(run(out, {"x": x})[0], seen @ stored, rtol=1e-3, atol=1e-3)
    assert np.abs(stored - weight).max() < np.abs(weight).max() / 100


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_bias_keeps_its_function(transposed, tmp_path):
    weights = {"w": floats(48, 64) if transposed else floats(64, 48), "b": floats(48)}
    model = build(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)], {"x": [3, 64]}, {"y": [3, 48]}, weights
    )
    result, out, _ = apply(model, tmp_path)
    assert result.details["int8_products"] == 1
    assert snr_db(model, out, {"x": floats(3, 64)}) > 35


def test_branches_are_quantised_too(tmp_path):
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("t", floats(64, 64)), else_branch=branch("e", floats(64, 64))
    )
    cast = helper.make_node("Cast", ["flag"], ["c"], to=TensorProto.BOOL)
    model = build([cast, node], {"x": [1, 64], "flag": []}, {"y": [1, 64]})
    result, out, _ = apply(model, tmp_path)
    assert result.details["int8_products"] == 2
    for flag in (0.0, 1.0):
        assert snr_db(model, out, {"x": floats(1, 64), "flag": np.array(flag, np.float32)}) > 30


def test_excluded_products_stay_float_and_without_vnni_weights_have_seven_bits(tmp_path):
    from onnx import numpy_helper

    model, _ = attention()
    name = next(n.name for n in normalise(model).graph.node if n.op_type == "MatMul")
    result, out, _ = apply(model, tmp_path, excluded=frozenset({name}), target="cpu-no-vnni")
    assert result.details["int8_products"] == 3
    assert [n.name for n in result.excluded_nodes] == [name]
    products = {n.input[1] for n in out.graph.node if n.op_type == "MatMulInteger"}
    weights = [numpy_helper.to_array(i) for i in out.graph.initializer if i.name in products]
    assert max(np.abs(w.astype(int)).max() for w in weights) <= 63


def test_convolutions_are_stored_not_quantised(tmp_path):
    model = build(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"x": [1, 16, 8, 8]},
        {"y": [1, 32, 6, 6]},
        {"w": floats(32, 16, 3, 3)},
    )
    result, out, _ = apply(model, tmp_path)
    assert result.details["int8_tensors"] == 1
    assert "ConvInteger" not in [n.op_type for n in out.graph.node]


@pytest.mark.parametrize(("target", "reason"), [("cuda", "use fp16"), ("tensorrt", "no kernels")])
def test_targets_without_kernels_are_refused_with_the_reason(target, reason, tmp_path):
    result, _, ratio = apply(attention()[0], tmp_path, target=target)
    assert not result.changed
    assert reason in result.reason
    assert 0.9 < ratio < 1.1


def test_applied_twice_the_second_time_changes_nothing(tmp_path):
    _, once, _ = apply(attention()[0], tmp_path)
    result, _, _ = apply(once, tmp_path)
    assert not result.changed
    assert "quantised already" in result.reason


def test_outlier_channels_are_moved_into_the_weights(tmp_path):
    outliers = np.ones(64, np.float32)
    outliers[:2] = 200
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 64]}, {"y": ["n", 32]}, {"w": floats(64, 32)}
    )
    data = Split("calibration", {"x": floats(32, 64) * outliers / 10})
    weights = model.graph.initializer[0]
    small = np.array(outliers)[:, None]
    from onnx import numpy_helper

    weights.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(weights) / small).astype(np.float32), "w"))
    feeds = {"x": floats(8, 64) * outliers / 10}
    _, plain, _ = apply(model, tmp_path)
    _, smooth, _ = apply(model, tmp_path, calibration=data)
    assert "Mul" in [n.op_type for n in smooth.graph.node[:2]]
    assert snr_db(model, smooth, feeds) > snr_db(model, plain, feeds) + 6


def test_the_noise_that_is_predicted_is_the_noise_that_comes():
    x, weight = floats(4000, 32), floats(32, 16)
    seen = Observed((x.T @ x / len(x))[None].astype(np.float64), x.min(axis=0)[None], x.max(axis=0)[None])
    step = (x.max() - x.min()) / 255
    scale = np.abs(weight).max(axis=0) / 127
    lossy = (np.rint(x / step) * step) @ (np.rint(weight / scale) * scale)
    measured = np.square(lossy - x @ weight).sum(axis=1).mean()
    assert predicted_noise(weight.astype(np.float64), seen) == pytest.approx(measured, rel=0.1)


def test_masks_are_softened_where_the_data_says_that_it_makes_no_difference():
    model, feeds = attention()
    model = normalise(model)
    before = run(model, feeds)[0]
    assert len(find_masks(model)) == 1
    assert soften_masks(model, Split("calibration", feeds)) == 1
    lowest = min(
        float(np.frombuffer(i.raw_data, np.float32).min()) for i in model.graph.initializer if i.data_type == 1
    )
    assert lowest >= MASKED
    np.testing.assert_allclose(run(model, feeds)[0], before, rtol=1e-5, atol=1e-5)


def test_masks_that_hold_back_large_scores_stay():
    model, feeds = attention()
    for tensor in model.graph.initializer:
        if tensor.name in ("wq", "wk"):
            from onnx import numpy_helper

            tensor.CopyFrom(numpy_helper.from_array(floats(64, 64) * 4, tensor.name))
    model = normalise(model)
    assert soften_masks(model, Split("calibration", feeds)) == 0
    assert len(find_masks(model)) == 1


def two_layers(raw_sizes):
    """An LSTM that sees raw features, and one that sees its outputs."""
    hidden, nodes, weights = 32, [], {}
    for k, (source, columns) in enumerate((("x", 16), ("h", hidden))):
        weights |= {f"w{k}": floats(1, 4 * hidden, columns) / 4, f"r{k}": floats(1, 4 * hidden, hidden) / 6}
        outputs = ["t", ""] if k == 0 else ["", "y"]
        nodes.append(helper.make_node("LSTM", [source, f"w{k}", f"r{k}"], outputs, hidden_size=hidden, name=f"lstm{k}"))
    weights["w0"] = (weights["w0"] / raw_sizes).astype(np.float32)
    nodes.insert(1, helper.make_node("Squeeze", ["t", "one"], ["h"]))
    weights["one"] = np.array([1])
    return build(nodes, {"x": [10, "n", 16]}, {"y": [1, "n", hidden]}, weights)


def test_lstm_layers_run_in_int8_where_the_data_says_that_they_bear_it(tmp_path):
    raw = np.logspace(0, -3, 16).astype(np.float32)
    model = two_layers(raw)
    data = Split("calibration", {"x": (floats(12, 10, 1, 16) * raw)})
    feeds = {"x": floats(10, 1, 16) * raw}
    result, out, _ = apply(model, tmp_path, calibration=data)
    assert result.details["int8_lstm_layers"] == ["lstm1"]
    assert snr_db(model, out, feeds) > 25
    assert optimised_ops(out, tmp_path).count("DynamicQuantizeLSTM") == 1
    without, _, _ = apply(model, tmp_path)
    assert without.details["int8_lstm_layers"] == []
