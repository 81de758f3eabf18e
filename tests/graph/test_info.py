from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.graph.advice import advise, bits_of, tensor_bytes
from edgekit.graph.info import describe
from edgekit.graph.macs import count_macs
from edgekit.graph.stored import dtype_name
from edgekit.specs import TensorSpec

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Shape = list[int | str]


def _weight(name: str, *shape: int, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Shape],
    weights: list[onnx.TensorProto],
    *,
    opset: int = 18,
    functions: list[onnx.FunctionProto] | None = None,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    declared = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    output = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
    graph = helper.make_graph(nodes, "g", declared, [output], weights)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions or [])


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


CONV = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2], group=2)
COUNTS = {
    # 2x8x4x4 outputs, each of 2 channels times 3x3
    "Conv": ([CONV], {"x": [2, 4, 8, 8]}, [_weight("w", 8, 2, 3, 3)], 2 * 8 * 4 * 4 * 2 * 9),
    # every one of 1x4x5x5 inputs goes to 6 channels times 2x2
    "ConvTranspose": (
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])],
        {"x": [1, 4, 5, 5]},
        [_weight("w", 4, 6, 2, 2)],
        4 * 5 * 5 * 6 * 4,
    ),
    "MatMul": (
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": [3, 7, 16]},
        [_weight("w", 16, 5)],
        3 * 7 * 16 * 5,
    ),
    "Gemm": (
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        {"x": [6, 16]},
        [_weight("w", 5, 16)],
        6 * 16 * 5,
    ),
    "LSTM": (
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=8)],
        {"x": [10, 2, 4]},
        [_weight("w", 1, 32, 4), _weight("r", 1, 32, 8)],
        10 * 2 * (32 * 4 + 32 * 8),
    ),
    "GRU": (
        [helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=8, direction="bidirectional")],
        {"x": [10, 2, 4]},
        [_weight("w", 2, 24, 4), _weight("r", 2, 24, 8)],
        10 * 2 * 2 * (24 * 4 + 24 * 8),
    ),
    "RNN": (
        [helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=8)],
        {"x": [5, 3, 4]},
        [_weight("w", 1, 8, 4), _weight("r", 1, 8, 8)],
        5 * 3 * (8 * 4 + 8 * 8),
    ),
    "Einsum": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij,jk->bik")],
        {"x": [2, 3, 4]},
        [_weight("w", 4, 5)],
        2 * 3 * 4 * 5,
    ),
}


@pytest.mark.parametrize("op", COUNTS)
def test_macs_of_one_node(op: str) -> None:
    nodes, inputs, weights, expected = COUNTS[op]
    found = count_macs(_model(nodes, inputs, weights))
    assert dict(found.by_op) == {op: expected}
    assert found.total == expected
    assert not found.uncounted


def test_macs_of_packed_weights() -> None:
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["h"], domain="com.microsoft", K=64, N=32, bits=4, block_size=32
    )
    after = helper.make_node("MatMul", ["h", "v"], ["y"])
    weights = [_weight("w", 32, 2, 16, dtype=np.uint8), _weight("s", 64), _weight("v", 32, 3)]
    model = _model([node, after], {"x": [5, 64]}, weights, domains=("com.microsoft",))
    assert dict(count_macs(model).by_op) == {"MatMulNBits": 5 * 64 * 32, "MatMul": 5 * 32 * 3}


LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


@pytest.mark.skipif(not LIGHT.is_dir(), reason="this onnx comes without its test data")
@pytest.mark.parametrize(
    ("name", "giga"), [("resnet50", 4.089), ("vgg19", 19.632), ("squeezenet", 0.349), ("densenet121", 2.834)]
)
def test_macs_of_known_networks_are_what_is_published(name: str, giga: float) -> None:
    found = describe(LIGHT / f"light_{name}.onnx")
    assert found.macs is not None
    assert found.macs.total / 1e9 == pytest.approx(giga, abs=0.01)
    assert not found.macs.uncounted


def test_symbolic_dimensions_are_one_or_as_given() -> None:
    model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["batch", "time", 16]}, [_weight("w", 16, 5)])
    assert count_macs(model).total == 80
    assert count_macs(model, {"batch": 2, "time": 10}).total == 1600
    with pytest.raises(ModelError, match="unknown dimension 'tim'; did you mean 'time'"):
        count_macs(model, {"tim": 3})
    with pytest.raises(ModelError, match="dimension 'time' cannot be 0"):
        count_macs(model, {"time": 0})


def test_macs_behind_shapes_that_the_graph_computes() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["first"]),
        helper.make_node("Mul", ["first", "two"], ["rows"]),
        helper.make_node("Concat", ["rows", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    integers = {"zero": [0], "two": [2], "minus": [-1]}
    weights = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in integers.items()]
    model = _model(nodes, {"x": ["batch", 8, 4]}, [*weights, _weight("w", 16, 3)])
    assert dict(count_macs(model, {"batch": 5}).by_op) == {"MatMul": 10 * 16 * 3}


def _with_if() -> onnx.ModelProto:
    def branch(name: str, width: int) -> onnx.GraphProto:
        weight = helper.make_node("Constant", [], [f"{name}_w"], value=_weight("", 16, width))
        matmul = helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])
        return helper.make_graph(
            [weight, matmul], name, [], [helper.make_tensor_value_info(f"{name}_y", FLOAT, [2, width])]
        )

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("then", 100), else_branch=branch("else", 8))
    return _model([node], {"x": [2, 16]}, [numpy_helper.from_array(np.array(True), "c")])


def test_of_an_if_the_larger_branch_counts() -> None:
    assert dict(count_macs(_with_if()).by_op) == {"MatMul": 2 * 16 * 100}


def test_functions_are_looked_into() -> None:
    opsets = [helper.make_opsetid("", 18)]
    dense = helper.make_function(
        "own", "Dense", ["a", "b"], ["c"], [helper.make_node("MatMul", ["a", "b"], ["c"])], opsets
    )
    call = helper.make_node("Dense", ["x", "w"], ["y"], domain="own")
    model = _model([call], {"x": [2, 16]}, [_weight("w", 16, 5)], functions=[dense], domains=("own",))
    assert dict(count_macs(model).by_op) == {"MatMul": 160}


def test_what_has_no_known_shape_is_said_so() -> None:
    odd = helper.make_node("Odd", ["x"], ["z"], domain="nobody")
    model = _model(
        [odd, helper.make_node("MatMul", ["z", "w"], ["y"])], {"x": [2, 16]}, [_weight("w", 16, 5)], domains=("nobody",)
    )
    found = count_macs(model)
    assert (found.total, dict(found.uncounted)) == (0, {"MatMul": 1})


def test_everything_about_a_small_model(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w", "b"], ["h"], name="conv", pads=[1, 1, 1, 1])
    model = _model(
        [conv, helper.make_node("Relu", ["h"], ["y"])],
        {"x": ["batch", 3, 8, 8]},
        [_weight("w", 16, 3, 3, 3), _weight("b", 16)],
    )
    model.producer_name, model.producer_version = "pytorch", "2.13"
    model.metadata_props.add(key="labels", value="cat,dog")
    path = _saved(model, tmp_path / "m.onnx")
    info = describe(path, {"batch": 2})
    assert info.size_bytes == path.stat().st_size
    assert info.inputs == (TensorSpec("x", "float32", ("batch", 3, 8, 8)),)
    assert [s.name for s in info.outputs] == ["y"]
    assert (info.ir_version, info.opsets, info.producer) == (9, {"ai.onnx": 18}, "pytorch 2.13")
    assert info.metadata == {"labels": "cat,dog"}
    assert (info.nodes, info.ops) == (2, {"Conv": 1, "Relu": 1})
    assert info.parameters == 16 * 27 + 16
    assert vars(info.weights[0]) == {"dtype": "float32", "tensors": 2, "elements": 448, "bytes": 1792}
    assert info.macs is not None
    assert info.macs.total == 2 * 16 * 64 * 27
    assert info.dims == {"batch": 2}
    assert (info.precision.weights, info.precision.activations, info.precision.quantised) == (
        "float32",
        "float32",
        False,
    )
    assert info.quantisable_bytes == 1792
    assert info.problems == ()
    document = json.loads(json.dumps(info.as_dict()))
    assert document["macs"] == info.macs.total
    assert document["advice"][0]["methods"] == ["static", "weights"]


def test_weights_in_constants_and_subgraphs_count(tmp_path: Path) -> None:
    info = describe(_saved(_with_if(), tmp_path / "if.onnx"))
    assert info.parameters == 16 * 100 + 16 * 8
    assert info.subgraphs == 2
    assert info.ops == {"Constant": 2, "MatMul": 2, "If": 1}
    (matmul,) = (a for a in info.advice if a.op_type == "MatMul")
    assert matmul.weight_bytes == 4 * (1600 + 128)
    assert matmul.methods[0] == "dynamic"


def test_initializers_that_are_inputs_are_no_inputs_to_give(tmp_path: Path) -> None:
    model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 16], "w": [16, 5]}, [_weight("w", 16, 5)])
    assert [s.name for s in describe(_saved(model, tmp_path / "m.onnx")).inputs] == ["x"]


def test_external_data_counts_and_is_named(tmp_path: Path) -> None:
    model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 64]}, [_weight("w", 64, 64)])
    path = tmp_path / "m.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="m.bin", size_threshold=0)
    info = describe(path)
    assert info.external_files == ("m.bin",)
    assert info.size_bytes == path.stat().st_size + 64 * 64 * 4
    assert (info.parameters, info.problems) == (4096, ())


def test_a_weight_that_several_nodes_share_is_charged_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["h", "t"], ["y"]),
    ]
    (matmul, transpose) = advise(_model(nodes, {"x": [2, 32]}, [_weight("w", 32, 32)]))
    assert (matmul.op_type, matmul.weight_bytes) == ("MatMul", 4096)
    assert transpose.weight_bytes == 0


@pytest.mark.parametrize(
    ("op", "shape", "methods", "reason"),
    [
        ("Conv", (16, 4, 3, 3), ("static", "weights"), "dynamic quantisation makes it 3 to 8 times slower"),
        ("ConvTranspose", (4, 16, 3, 3), ("weights",), "no int8 kernel"),
        ("Gather", (100, 16), ("weights", "int4"), "a table"),
        ("Einsum", (32, 32), ("weights",), "no int8 kernel"),
        ("MatMul", (32, 32), ("dynamic", "static", "int4", "weights"), "int8 and int4 kernels"),
        ("LayerNormalization", (1024,), (), "stays in float"),
        ("SomethingNew", (32, 32), ("weights",), "folded into float"),
        ("SomethingNew", (2,), (), "no weights to speak of"),
        ("ConvTranspose", (1, 1, 3, 3), (), "no weights to speak of"),
    ],
)
def test_advice_says_how_and_why(op: str, shape: tuple[int, ...], methods: tuple[str, ...], reason: str) -> None:
    (found,) = advise(_model([helper.make_node(op, ["x", "w"], ["y"])], {"x": [1]}, [_weight("w", *shape)]))
    assert found.methods == methods
    assert reason in found.reason


def _quantised(form: str) -> onnx.ModelProto:
    scale, zero = _weight("s"), numpy_helper.from_array(np.array(0, np.uint8), "z")
    weight, zero_w = _weight("w", 32, 32, dtype=np.int8), numpy_helper.from_array(np.array(0, np.int8), "zw")
    make = helper.make_node
    nodes = {
        "Q/DQ": [
            make("QuantizeLinear", ["x", "s", "z"], ["q"]),
            make("DequantizeLinear", ["q", "s", "z"], ["d"]),
            make("DequantizeLinear", ["w", "s", "zw"], ["dw"]),
            make("MatMul", ["d", "dw"], ["y"]),
        ],
        "QOperator": [
            make("QuantizeLinear", ["x", "s", "z"], ["q"]),
            make("QLinearMatMul", ["q", "s", "z", "w", "s", "zw", "s", "z"], ["p"]),
            make("DequantizeLinear", ["p", "s", "z"], ["y"]),
        ],
        "dynamic": [
            make("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
            make("MatMulInteger", ["q", "w", "qz"], ["i"]),
            make("Cast", ["i"], ["f"], to=FLOAT),
            make("Mul", ["f", "qs"], ["y"]),
        ],
        "weights": [
            make("Cast", ["w"], ["c"], to=FLOAT),
            make("Mul", ["c", "s"], ["m"]),
            make("MatMul", ["x", "m"], ["y"]),
        ],
    }[form]
    return _model(nodes, {"x": [2, 32]}, [scale, zero, weight, zero_w])


@pytest.mark.parametrize(
    ("form", "activations"), [("Q/DQ", "int8"), ("QOperator", "int8"), ("dynamic", "int8"), ("weights", "float32")]
)
def test_the_form_of_quantisation_is_recognised(tmp_path: Path, form: str, activations: str) -> None:
    info = describe(_saved(_quantised(form), tmp_path / "q.onnx"))
    assert info.precision.forms == (form,)
    assert (info.precision.weights, info.precision.activations) == ("int8", activations)
    assert info.macs is not None
    assert info.macs.total == 2 * 32 * 32


def test_half_precision_is_told_from_half_storage(tmp_path: Path) -> None:
    half = _weight("w", 32, 32, dtype=np.float16)
    cast = helper.make_node("Cast", ["w"], ["f"], to=FLOAT)
    stored = _model([cast, helper.make_node("MatMul", ["x", "f"], ["y"])], {"x": [2, 32]}, [half])
    assert describe(_saved(stored, tmp_path / "a.onnx")).precision.activations == "float32"
    down = helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16)
    up = helper.make_node("Cast", ["m"], ["y"], to=FLOAT)
    computed = _model([down, helper.make_node("MatMul", ["h", "w"], ["m"]), up], {"x": [2, 32]}, [half])
    assert describe(_saved(computed, tmp_path / "b.onnx")).precision.activations == "float16"


def test_what_the_runtime_would_refuse_is_described_and_named(tmp_path: Path) -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, [], opset=18)
    model.opset_import[0].version = 999
    info = describe(_saved(model, tmp_path / "m.onnx"))
    assert info.problems[0].startswith("opset 999, IR version 9: the installed ONNX Runtime loads at most")
    assert info.macs is None
    assert info.as_dict()["macs"] is None


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there"):
        describe(tmp_path / "none.onnx")
    (tmp_path / "page.onnx").write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(ModelError, match="HTML page"):
        describe(tmp_path / "page.onnx")


def test_odd_models_do_not_crash(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    at = helper.make_tensor_value_info("at", INT64, [])
    out = helper.make_tensor_value_info("y", FLOAT, None)
    text = numpy_helper.from_array(np.array(["a", "b"], object), "text")
    empty = _weight("empty", 0, 4)
    graph = helper.make_graph(
        [helper.make_node("SequenceAt", ["s", "at"], ["y"])], "g", [sequence, at], [out], [text, empty]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    info = describe(_saved(model, tmp_path / "m.onnx"))
    assert [(s.name, s.dtype) for s in info.inputs] == [("s", "sequence"), ("at", "int64")]
    assert info.parameters == 0
    assert {g.dtype for g in info.weights} == {"string", "float32"}


@pytest.mark.parametrize(
    ("data_type", "name", "bits"),
    [
        (TensorProto.FLOAT, "float32", 32),
        (TensorProto.DOUBLE, "float64", 64),
        (TensorProto.BFLOAT16, "bfloat16", 16),
        (TensorProto.INT4, "int4", 4),
        (TensorProto.UINT8, "uint8", 8),
        (TensorProto.INT32, "int32", 32),
        (TensorProto.BOOL, "bool", 8),
        (TensorProto.STRING, "string", 0),
    ],
)
def test_element_types(data_type: int, name: str, bits: int) -> None:
    assert (dtype_name(data_type), bits_of(data_type)) == (name, bits)
    assert tensor_bytes(TensorProto(data_type=data_type, dims=[3, 5])) == -(-15 * bits // 8)
