from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.sensitivity import relative_noise
from edgekit.compress.quantize.weights import WeightsConfig, quantize_weights
from edgekit.compress.technique import OnnxStep
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.graph.read import read_model
from edgekit.ort import Session
from tests.graph.test_normalise import branch, build, run
from tests.noise import floats


def apply(model, tmp_path, config=None, **step):
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    source.write_bytes(model.SerializeToString())
    result = quantize_weights(config or WeightsConfig(), OnnxStep(source, out, **step))
    return result, read_model(out), source.stat().st_size / out.stat().st_size


def test_wide_outputs_are_measured_on_fewer_samples(monkeypatch, tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = build([node], {"x": ["n", 96]}, {"y": ["n", 64]}, {"w": floats(96, 64)})
    rows: list[int] = []
    inner = Session.run
    monkeypatch.setattr(Session, "run", lambda self, feeds: (rows.append(len(feeds["x"])), inner(self, feeds))[1])
    data = Split("calibration", {"x": floats(8, 96)}, None)
    for most, expected in ((1 << 23, 8), (3 * 64, 3), (1, 1)):
        rows.clear()
        monkeypatch.setattr("edgekit.compress.quantize.sensitivity._OUTPUT_VALUES", most)
        apply(model, tmp_path, WeightsConfig(bits=4, spare=0.5), calibration=data)
        assert rows == [1, expected, expected]


def snr_db(model, other, feeds):
    a, b = run(model, feeds), run(other, feeds)
    return -10 * np.log10(max(relative_noise([x.astype(np.float64) for x in a], b), 1e-30))


def optimised_ops(model, tmp_path):
    """What is left of a graph when a session has loaded it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return sorted(n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node)


def recurrent(op, gates):
    hidden, size = 32, 24
    weights = {"w": floats(1, gates * hidden, size) / 5, "r": floats(1, gates * hidden, hidden) / 6}
    node = helper.make_node(op, ["x", "w", "r"], ["", "y"], hidden_size=hidden)
    return build([node], {"x": [5, 2, size]}, {"y": [1, 2, hidden]}, weights), {"x": floats(5, 2, size)}


def product(op):
    weights = {"w": floats(96, 64), "b": floats(64)}
    nodes = {
        "MatMul": [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "Gemm": [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "Einsum": [
            helper.make_node("Einsum", ["x", "w"], ["h"], equation="ij,jk->ik"),
            helper.make_node("Add", ["h", "b"], ["y"]),
        ],
    }
    return build(nodes[op], {"x": [3, 96]}, {"y": [3, 64]}, weights), {"x": floats(3, 96)}


def convolution(op):
    weights = {"w": floats(16, 16, 3, 3), "b": floats(16)}
    node = helper.make_node(op, ["x", "w", "b"], ["y"])
    return build([node], {"x": [1, 16, 9, 9]}, {"y": [1, 16, None, None]}, weights), {"x": floats(1, 16, 9, 9)}


def lookup():
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["w", "i"], ["y"]),
    ]
    model = build(nodes, {"x": [4]}, {"y": [4, 32]}, {"w": floats(500, 32)})
    return model, {"x": np.array([0, 3, 499, 77], np.float32)}


CASES = {
    "MatMul": lambda: product("MatMul"),
    "Gemm": lambda: product("Gemm"),
    "Einsum": lambda: product("Einsum"),
    "Conv": lambda: convolution("Conv"),
    "ConvTranspose": lambda: convolution("ConvTranspose"),
    "Gather": lookup,
    "LSTM": lambda: recurrent("LSTM", 4),
    "GRU": lambda: recurrent("GRU", 3),
    "RNN": lambda: recurrent("RNN", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_any_operator_keeps_its_function_and_folds_back_to_the_float_graph(name, tmp_path):
    model, feeds = CASES[name]()
    result, out, _ = apply(model, tmp_path)
    assert result.changed
    assert {i.data_type for i in out.graph.initializer} >= {TensorProto.INT8}
    assert snr_db(model, out, feeds) > 35
    assert optimised_ops(out, tmp_path) == optimised_ops(model, tmp_path)
    assert list(out.graph.output) == list(model.graph.output)
    assert list(out.metadata_props) == list(model.metadata_props)


def test_a_large_weight_takes_a_quarter_of_the_bytes(tmp_path):
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 512]}, {"y": [1, 512]}, {"w": floats(512, 512)}
    )
    assert apply(model, tmp_path)[2] > 3.9
    assert 1.95 < apply(model, tmp_path, WeightsConfig(bits=16))[2] < 2.01


def test_weights_in_branches_are_stored_outside_and_still_fold(tmp_path):
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("t", floats(64, 64)), else_branch=branch("e", floats(64, 64))
    )
    cast = helper.make_node("Cast", ["flag"], ["c"], to=TensorProto.BOOL)
    model = build([cast, node], {"x": [1, 64], "flag": []}, {"y": [1, 64]})
    _, out, ratio = apply(model, tmp_path)
    assert ratio > 3
    for flag in (0.0, 1.0):
        assert snr_db(model, out, {"x": floats(1, 64), "flag": np.array(flag, np.float32)}) > 35
    assert "Mul" not in optimised_ops(out, tmp_path)


def test_biases_small_tensors_masks_and_excluded_nodes_stay_float(tmp_path):
    weights = {"w": floats(64, 64), "v": floats(64, 64), "small": floats(2, 2), "b": floats(64)}
    mask = np.full((64, 64), -3.4e38, np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first"),
        helper.make_node("Gemm", ["h", "v", "b"], ["i"], name="second"),
        helper.make_node("Max", ["i", "mask"], ["y"]),
    ]
    model = build(nodes, {"x": [64, 64]}, {"y": [64, 64]}, {**weights, "mask": mask})
    result, out, _ = apply(model, tmp_path, excluded=frozenset({"second"}))
    kinds = [(tuple(i.dims), i.data_type) for i in out.graph.initializer if tuple(i.dims) == (64, 64)]
    assert sorted(kind for _, kind in kinds) == [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT8]
    assert [n.name for n in result.excluded_nodes] == ["second"]
    assert result.details["float_tensors"] == {"a node that reads it is excluded": 2, "a mask": 1}


def test_data_finds_the_weight_that_needs_more_bits_and_rounds_the_others_on_it(tmp_path):
    # the first weight is largest where features are smallest, and its outputs differ in size too: one scale an output
    sizes, spread = np.logspace(0, -2, 16, dtype=np.float32), np.logspace(0, -3, 128, dtype=np.float32)
    first, second = floats(16, 128) * spread / sizes[:, None], floats(128, 600) / spread[:, None]
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["h"]), helper.make_node("MatMul", ["h", "w2"], ["y"])]
    model = build(nodes, {"x": ["n", 16]}, {"y": ["n", 600]}, {"w1": first, "w2": second})
    data, feeds = Split("calibration", {"x": floats(64, 16) * sizes}), {"x": floats(32, 16) * sizes}
    result, out, _ = apply(model, tmp_path, calibration=data)
    assert result.details["float16_tensors"] == ["w1"]
    cheaper = apply(model, tmp_path, WeightsConfig(spare=0), calibration=data)[1]
    assert snr_db(model, out, feeds) > snr_db(model, cheaper, feeds) + 2


def test_applied_twice_the_second_time_changes_nothing(tmp_path):
    model, _ = product("MatMul")
    _, once, _ = apply(model, tmp_path)
    result, twice, _ = apply(once, tmp_path)
    assert not result.changed
    assert "no float weight is worth storing" in result.reason
    assert twice.SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


def test_a_model_without_weights_is_copied_with_the_reason(tmp_path):
    result, out, _ = apply(build([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": [2]}), tmp_path)
    assert not result.changed
    assert "no float weights" in result.reason
    assert [n.op_type for n in out.graph.node] == ["Relu"]


def test_broken_weights_are_named(tmp_path):
    model, _ = product("MatMul")
    values = floats(96, 64)
    values[3, 5] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    with pytest.raises(ModelError, match="weight 'w' holds 1 values that are NaN"):
        apply(model, tmp_path)
    assert not (tmp_path / "out.onnx").exists()


def test_the_result_runs_with_every_optimisation_switched_off(tmp_path):
    model, feeds = product("Gemm")
    _, out, _ = apply(model, tmp_path)
    plain = Session(out.SerializeToString(), threads=1, graph_optimization=False).run(feeds)[0]
    np.testing.assert_allclose(plain, run(out, feeds)[0], rtol=1e-5, atol=1e-5)


def image_net():
    """x (n, 8, 12, 12) -> two convolutions, one with a bias worth storing as float16 -> a product -> y (n, 10)."""
    weights = {
        "w1": floats(32, 8, 3, 3) / 8,
        "w2": floats(64, 32, 3, 3) / 17,
        "w3": floats(64, 10) / 8,
        "b2": floats(64) / 9,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2", "b2"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"]),
    ]
    return build(nodes, {"x": ["n", 8, 12, 12]}, {"y": ["n", 10]}, weights)


def test_four_bits_take_an_eighth_and_fold_away_when_a_session_loads(tmp_path):
    model, data = image_net(), Split("calibration", {"x": floats(64, 8, 12, 12)})
    result, out, ratio = apply(model, tmp_path, WeightsConfig(bits=4, spare=0), calibration=data)
    assert result.reason.startswith("3 weight tensors stored as int4; ")
    assert result.details["int4_tensors"] == 3
    assert {i.data_type for i in out.graph.initializer if len(i.dims) == 4 and i.dims[1] > 1} == {TensorProto.INT4}
    assert ratio > 6.5
    assert not {"Cast", "Mul"} & set(optimised_ops(out, tmp_path))
    assert snr_db(model, out, {"x": floats(8, 8, 12, 12)}) > 12


def test_the_integers_of_four_bits_are_what_was_rounded(tmp_path):
    """Every value of the file's weight is a whole number of -7..7 times the scale of its channel."""
    model = image_net()
    _, out, _ = apply(model, tmp_path, WeightsConfig(bits=4, samples=0, spare=0))
    codes = next(i for i in out.graph.initializer if tuple(i.dims) == (64, 32, 3, 3))
    q = numpy_helper.to_array(codes).astype(np.float32)
    assert (q.min(), q.max()) == (-7, 7)
    before = numpy_helper.to_array(next(i for i in model.graph.initializer if i.name == "w2"))
    scale = (q * before).sum() / (q * q).sum()
    assert float(np.abs(q * scale - before).mean() / np.abs(before).mean()) < 0.15


def test_data_rounds_to_four_bits_and_finds_the_tensor_that_needs_eight(tmp_path):
    model, data = image_net(), Split("calibration", {"x": floats(64, 8, 12, 12)})
    feeds = {"x": floats(8, 8, 12, 12)}
    _, nearest, _ = apply(model, tmp_path, WeightsConfig(bits=4, spare=0))
    _, cheap, _ = apply(model, tmp_path, WeightsConfig(bits=4, spare=0), calibration=data)
    assert snr_db(model, cheap, feeds) > snr_db(model, nearest, feeds) + 0.5
    result, out, ratio = apply(model, tmp_path, WeightsConfig(bits=4, spare=0.08), calibration=data)
    assert len(result.details["int8_tensors"]) in (1, 2)
    assert result.details["int4_tensors"] + len(result.details["int8_tensors"]) == 3
    assert snr_db(model, out, feeds) > snr_db(model, cheap, feeds) + 0.5
    assert ratio > 5


def test_four_bits_applied_twice_change_nothing_more(tmp_path):
    _, once, _ = apply(image_net(), tmp_path, WeightsConfig(bits=4))
    result, twice, _ = apply(once, tmp_path, WeightsConfig(bits=4))
    assert not result.changed
    assert twice.SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


def test_small_tensors_in_float16_do_not_stop_rounding_on_data(tmp_path, capsys):
    """The model is run for rounding and for sensitivity before any tensor is replaced in it."""
    weights = {"w": floats(96, 96), "b": floats(96)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    model = build(nodes, {"x": ["n", 96]}, {"y": ["n", 96]}, weights)
    data = Split("calibration", {"x": floats(32, 96)})
    _, out, _ = apply(model, tmp_path, calibration=data)
    halves = [numpy_helper.to_array(i) for i in out.graph.initializer if i.data_type == TensorProto.FLOAT16]
    assert any(h.shape == (96,) and np.allclose(h, weights["b"], atol=1e-2) for h in halves)
    assert "warning" not in capsys.readouterr().err
