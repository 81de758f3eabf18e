from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from edgekit.compress.quantize.element_types import output_types, schema_of
from edgekit.compress.quantize.half import Bf16Config, Fp16Config, quantize_bf16, quantize_fp16
from edgekit.compress.quantize.narrow import narrow
from edgekit.compress.technique import TECHNIQUES, OnnxStep, StepResult
from edgekit.data.split import Split
from edgekit.errors import CompressError
from edgekit.graph.read import every_graph
from tests.compress.quantize.nets import Net, images, mobile_block, normal, run, snr_db

MAX = float(np.finfo(np.float32).max)


def halve(
    model: onnx.ModelProto, tmp_path: Path, data: Split | None = None, config: Fp16Config | None = None, **step: object
) -> tuple[StepResult, onnx.ModelProto]:
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    source.write_bytes(model.SerializeToString())
    result = quantize_fp16(config or Fp16Config(), OnnxStep(source, out, data, **step))  # type: ignore[arg-type]
    return result, onnx.load(out)


def rows(count: int = 16, width: int = 64, scale: float = 1.0) -> Split:
    values = np.random.default_rng(1).standard_normal((count, width)) * scale
    return Split("rows", {"x": values.astype(np.float32)})


def wide_net(*tail: str, **attributes: object) -> tuple[Net, str]:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 64))
    return net, net.add("MatMul", "x", normal(rng, 64, 64))


def kept_names(result: StepResult) -> dict[str, str]:
    return {n.name: n.reason for n in result.excluded_nodes}


def test_both_are_registered_with_their_defaults() -> None:
    assert TECHNIQUES["quantize: fp16"].config().keep_io  # type: ignore[attr-defined]
    assert TECHNIQUES["quantize: bf16"].stage == "onnx"
    with pytest.raises(ValidationError):
        Fp16Config(headroom=0.5)


@pytest.mark.parametrize("data", [images(8), None])
def test_a_net_is_half_the_size_and_computes_the_same(tmp_path: Path, data: Split | None) -> None:
    model = mobile_block()
    result, written = halve(model, tmp_path, data)
    feeds = dict(images(4, seed=5).arrays)
    assert result.changed
    assert not result.excluded_nodes
    assert result.details["ranges_from"] == ("images" if data else "made-up inputs")
    assert len(model.SerializeToString()) / len(written.SerializeToString()) > 1.8
    assert snr_db(run(model, feeds)[0], run(written, feeds)[0]) > 50
    assert {i.data_type for i in written.graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}


def test_inputs_and_outputs_keep_their_types_unless_told_otherwise(tmp_path: Path) -> None:
    model = mobile_block()
    kept, written = halve(model, tmp_path, images(4))
    assert kept.details["casts"] == 2
    assert written.graph.input == model.graph.input
    assert written.graph.output == model.graph.output
    bare, written = halve(model, tmp_path, images(4), Fp16Config(keep_io=False))
    assert bare.details["casts"] == 0
    assert written.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    got = run(written, {"image": images(2).arrays["image"].astype(np.float16)})[0]
    assert got.dtype == np.float16
    assert snr_db(run(model, dict(images(2).arrays))[0], got.astype(np.float32)) > 45


def test_values_beyond_float16_stay_in_float32_with_the_reason(tmp_path: Path) -> None:
    net, hidden = wide_net()
    large = net.add("Mul", hidden, np.array(3e4, np.float32))
    model = net.model(
        net.add("MatMul", net.add("Mul", large, np.array(1e-4, np.float32)), normal(np.random.default_rng(2), 64, 64))
    )
    result, written = halve(model, tmp_path, rows())
    why = kept_names(result)
    assert set(why) == {"mul1", "mul2"}
    assert all("float16 ends at 65504" in reason for reason in why.values())
    feeds = dict(rows(4).arrays)
    assert snr_db(run(model, feeds)[0], run(written, feeds)[0]) > 50


def test_headroom_is_for_data_that_nobody_measured(tmp_path: Path) -> None:
    net, hidden = wide_net()
    model = net.model(net.add("Mul", hidden, np.array(6e3, np.float32)))
    assert set(kept_names(halve(model, tmp_path, rows())[0])) == {"mul1"}
    assert not halve(model, tmp_path, rows(), Fp16Config(headroom=1))[0].excluded_nodes


def test_an_epsilon_that_vanishes_stays_in_float32(tmp_path: Path) -> None:
    net, hidden = wide_net()
    model = net.model(
        net.add("Div", hidden, net.add("Add", net.add("Mul", hidden, hidden), np.array(1e-12, np.float32)))
    )
    result, _ = halve(model, tmp_path, rows())
    assert kept_names(result)["add2"] == "a constant of 1e-12 is zero in float16"


def test_a_bound_at_the_float_limit_becomes_the_largest_float16(tmp_path: Path) -> None:
    net, hidden = wide_net()
    model = net.model(net.add("Clip", hidden, np.array(0, np.float32), np.array(MAX, np.float32)))
    result, written = halve(model, tmp_path, rows())
    assert not result.excluded_nodes
    bounds = [float(numpy_helper.to_array(i)) for i in written.graph.initializer if not i.dims]
    assert sorted(bounds) == [0.0, 65504.0]


def test_a_mask_at_the_float_limit_gives_finite_outputs(tmp_path: Path) -> None:
    net, hidden = wide_net()
    mask = net.add("Greater", hidden, np.array(1.0, np.float32))
    model = net.model(net.add("Softmax", net.add("Where", mask, np.array(-MAX, np.float32), hidden)))
    for data in (rows(), None):
        _, written = halve(model, tmp_path, data)
        feeds = dict(rows(4).arrays)
        assert snr_db(run(model, feeds)[0], run(written, feeds)[0]) > 50


def test_nodes_that_give_infinity_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, hidden = wide_net()
    grown = net.add("Mul", net.add("Relu", hidden), np.array(6e4, np.float32))
    model = net.model(net.add("Tanh", net.add("Div", grown, net.add("Add", grown, np.array(1, np.float32)))))
    monkeypatch.setattr("edgekit.compress.quantize.half.nodes_out_of_range", lambda *_: {})
    result, written = halve(model, tmp_path, rows())
    assert kept_names(result) == {
        "mul2": "Mul gives NaN or Inf in 16 bits",
        "add3": "Add gives NaN or Inf in 16 bits",
    }
    assert np.isfinite(run(written, dict(rows().arrays))[0]).all()


def test_nodes_that_do_not_run_are_found_by_bisection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale that QuantizeLinear takes in float32 only: what a place without a kernel looks like."""
    monkeypatch.setattr("edgekit.compress.quantize.narrow.accepts", lambda *_: True)
    monkeypatch.setattr("edgekit.compress.quantize.narrow._KEPT_OPS", frozenset())
    net, hidden = wide_net()
    q = net.add("QuantizeLinear", hidden, np.array(0.1, np.float32), np.array(128, np.uint8))
    end = net.add("DequantizeLinear", q, np.array(0.1, np.float32), np.array(128, np.uint8))
    result, written = halve(net.model(net.add("Relu", end)), tmp_path, rows())
    assert kept_names(result) == {
        "quantizelinear1": "QuantizeLinear does not run in 16 bits in this place",
        "dequantizelinear2": "DequantizeLinear does not run in 16 bits in this place",
    }
    assert np.isfinite(run(written, dict(rows().arrays))[0]).all()


def test_a_model_that_no_choice_of_nodes_saves_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.compress.quantize.half_proof._Trial.culprit", lambda *_: ("conv0", "a reason"))
    with pytest.raises(CompressError, match="keep it in float32"):
        halve(mobile_block(), tmp_path, images(2))
    assert not (tmp_path / "out.onnx").exists()


def with_branches() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    text = """net (float[batch, 64] x, bool wide) => (float[batch, 64] y) {
        a = MatMul(x, first)
        z = If (wide) <
            then_branch = yes () => (float[batch, 64] o) { h = MatMul(a, w) o = Tanh(h) },
            else_branch = no () => (float[batch, 64] o) { e = Exp(a) o = Sigmoid(e) }
        >
        y = Relu(z)
    }"""
    graph = onnx.parser.parse_graph(text)
    graph.initializer.append(numpy_helper.from_array(normal(rng, 64, 64), "first"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=9)
    list(every_graph(model))[1].initializer.append(numpy_helper.from_array(normal(rng, 64, 64), "w"))
    for number, graph in enumerate(every_graph(model)):
        for node in graph.node:
            node.name = f"{node.op_type.lower()}{number}"
    return model


def test_branches_are_narrowed_too(tmp_path: Path) -> None:
    model = with_branches()
    data = Split("d", {"x": rows().arrays["x"][:, None], "wide": np.arange(16) % 2 == 0})
    result, written = halve(model, tmp_path, data)
    assert list(kept_names(result)) == ["exp2"]
    stored = [i.data_type for g in every_graph(written) for i in g.initializer]
    assert stored == [TensorProto.FLOAT16] * 2
    for wide in (True, False):
        feeds = {"x": rows(4).arrays["x"], "wide": np.array(wide)}
        assert snr_db(run(model, feeds)[0], run(written, feeds)[0]) > 50


def test_what_is_asked_for_stays_in_float32(tmp_path: Path) -> None:
    result, _ = halve(mobile_block(), tmp_path, images(4), excluded=frozenset({"conv2"}))
    assert kept_names(result) == {"conv2": "asked for"}


def test_nothing_to_narrow_says_so(tmp_path: Path) -> None:
    net = Net(x=("batch", 64))
    result, written = halve(net.model(net.add("Relu", "x")), tmp_path, rows())
    assert not result.changed
    assert "next to no float32 weights" in result.reason
    assert not written.graph.initializer


def test_a_cpu_is_told_that_it_gains_no_time(tmp_path: Path) -> None:
    cpu, _ = halve(mobile_block(), tmp_path, images(2))
    cuda, _ = halve(mobile_block(), tmp_path, images(2), target="cuda")
    assert "weights with bits 16" in cpu.reason
    assert "warning" not in cuda.details


def test_bfloat16_keeps_the_range_and_loses_precision() -> None:
    net, hidden = wide_net()
    model = net.model(net.add("Mul", net.add("Relu", hidden), np.array(1e20, np.float32)))
    made = narrow(model, TensorProto.BFLOAT16)
    onnx.checker.check_model(made, full_check=True)
    assert {i.data_type for i in made.graph.initializer} == {TensorProto.BFLOAT16}
    wanted = run(model, dict(rows(4).arrays))[0]
    kind = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    weight = next(numpy_helper.to_array(i) for i in model.graph.initializer if i.dims).astype(kind).astype(np.float32)
    expected = np.maximum(rows(4).arrays["x"].astype(kind).astype(np.float32) @ weight, 0) * np.float32(1e20)
    assert 30 < snr_db(wanted / 1e20, expected / 1e20) < 60


def test_bfloat16_without_kernels_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    net, hidden = wide_net()
    source.write_bytes(net.model(net.add("Relu", hidden)).SerializeToString())
    with pytest.raises(CompressError, match=r"does not run on provider 'cpu'.*take fp16, or weights with bits 16"):
        quantize_bf16(Bf16Config(), OnnxStep(source, out))
    assert not out.exists()


def test_bfloat16_is_written_where_it_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 2048))
    end = net.add("LayerNormalization", "x", normal(rng, 2048), normal(rng, 2048))
    model = net.model(end)
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    source.write_bytes(model.SerializeToString())
    result = quantize_bf16(Bf16Config(), OnnxStep(source, out))
    assert result.changed
    assert source.stat().st_size / out.stat().st_size > 1.8
    feeds = dict(rows(4, 2048).arrays)
    assert snr_db(run(model, feeds)[0], run(onnx.load(out), feeds)[0]) > 35


def test_types_come_from_schemas_of_both_domains() -> None:
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    for node, inputs, wanted in (
        (helper.make_node("Shape", ["x"], ["y"]), [half], TensorProto.INT64),
        (helper.make_node("Cast", ["x"], ["y"], to=half), [single], half),
        (helper.make_node("ConstantOfShape", ["x"], ["y"]), [TensorProto.INT64], single),
        (helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft"), [half, half], half),
    ):
        schema = schema_of(node, {"": 18, "com.microsoft": 1})
        assert output_types(node, schema, inputs) == [wanted]
    assert schema_of(helper.make_node("Nothing", ["x"], ["y"]), {"": 18}) is None
