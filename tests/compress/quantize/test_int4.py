from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from edgekit.compress.quantize.algorithms import round_matrices
from edgekit.compress.quantize.int4 import Int4Config, choose_form, grids_for, quantize_int4
from edgekit.compress.quantize.matrices import find_matrices
from edgekit.compress.technique import OnnxStep
from edgekit.data.split import Split
from edgekit.errors import CompressError, DataError
from edgekit.graph.normalise import normalise
from edgekit.ort.session import Session
from tests.compress.quantize.language import WIDTH, language_model, save, token_ids


def compress(path: Path, *, data: bool = False, target: str = "cpu", excluded: tuple[str, ...] = (), **options):
    out = path.with_name("out.onnx")
    split = Split("calibration", {"ids": token_ids()}) if data else None
    settings = {"min_elements": 256, **options}
    step = OnnxStep(path, out, split, target=target, excluded=frozenset(excluded))  # type: ignore[arg-type]
    return out, quantize_int4(Int4Config(**settings), step)


def logits(path: Path, ids: np.ndarray | None = None) -> np.ndarray:
    return Session(path, threads=1).run({"ids": token_ids()[:1] if ids is None else ids})[0].astype(np.float64)


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def rounded_copy(path: Path, **options) -> Path:
    """The float model with its weights replaced by what their blocks stand for."""
    config = Int4Config(min_elements=256, **options)
    model = normalise(onnx.load(str(path)))
    matrices, _ = find_matrices(model, min_elements=256, embeddings=True)
    for item in round_matrices(model, grids_for(matrices, config, choose_form(config, "cpu"), {})):
        values = item.blocks.values.T if item.matrix.transposed else item.blocks.values
        item.matrix.weight.tensor.CopyFrom(numpy_helper.from_array(values, item.matrix.name))
    onnx.save(model, str(path.with_name("reference.onnx")))
    return path.with_name("reference.onnx")


def ops(path: Path) -> list[str]:
    return [n.op_type for n in onnx.load(str(path)).graph.node]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("head", ["transpose", "copy", "apart"])
def test_expanded_computes_what_the_blocks_stand_for(tmp_path: Path, bits: int, head: str):
    path = language_model(tmp_path / "m.onnx", head=head)
    out, result = compress(path, bits=bits)
    assert result.changed
    assert ops(out).count("MatMulNBits") == 5
    assert ops(out).count("GatherBlockQuantized") == 1
    assert "MatMul" not in ops(out)
    assert relative_error(logits(out), logits(rounded_copy(path, bits=bits))) < 0.02  # activations in int8


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_packed_in_float_computes_exactly_what_the_blocks_stand_for(tmp_path: Path, bits: int, symmetric: bool):
    path = language_model(tmp_path / "m.onnx")
    options = {"bits": bits, "accuracy_level": 0, "symmetric": symmetric, "embedding_bits": 4}
    out, result = compress(path, **options)
    assert result.details["kernel"] == "packed"
    assert relative_error(logits(out), logits(rounded_copy(path, **options))) < 1e-3  # half-precision scales


def test_a_tied_table_is_stored_once(tmp_path: Path):
    sizes = {}
    for head in ("transpose", "copy", "apart"):
        out, result = compress(language_model(tmp_path / "m.onnx", head=head))
        sizes[head] = out.stat().st_size
        assert bool(result.details["tied_tables"]) == (head != "apart")
    assert sizes["copy"] == pytest.approx(sizes["transpose"], rel=0.02)
    assert sizes["apart"] > 1.2 * sizes["copy"]


@pytest.mark.parametrize("target", ["cpu", "arm", "web"])
def test_inputs_outputs_and_metadata_stay(tmp_path: Path, target: str):
    path = language_model(tmp_path / "m.onnx")
    before = Session(path, threads=1)
    out, result = compress(path, target=target)
    after = Session(out, threads=1)
    assert result.changed
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert after.metadata == {"author": "somebody"}
    for length in (1, 5):
        ids = token_ids(1, length)
        assert relative_error(logits(out, ids), logits(path, ids)) < 0.2


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("head", ["transpose", "apart"])
def test_standard_form_has_no_operator_beyond_onnx(tmp_path: Path, symmetric: bool, bits: int, head: str):
    path = language_model(tmp_path / "m.onnx", head=head)
    out, result = compress(path, kernel="standard", bits=bits, symmetric=symmetric)
    model = onnx.load(str(out))
    assert {n.domain for n in model.graph.node} == {""}
    assert "DequantizeLinear" in ops(out)
    assert result.changed
    assert relative_error(logits(out), logits(path)) < (0.15 if bits == 4 else 0.02)


def test_more_bits_lose_less(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx")
    errors = [relative_error(logits(compress(path, bits=b)[0]), logits(path)) for b in (2, 3, 4, 6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.03


def test_half_precision_models(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx", dtype=np.float16)
    out, result = compress(path, embedding_bits=4)
    assert result.changed
    assert relative_error(logits(out), logits(path)) < 0.2
    assert out.stat().st_size < 0.5 * path.stat().st_size


def test_data_lowers_the_error_and_agreement_is_told(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx", layers=1)
    plain, _ = compress(path, bits=2, algorithm="rtn", embedding_bits=8)
    before = relative_error(logits(plain), logits(path))
    out, result = compress(path, bits=2, embedding_bits=8, data=True)
    assert result.details["algorithms"] == {"gptq": 2, "rtn": 1}
    assert relative_error(logits(out), logits(path)) < before
    agreement = result.details["agreement"]
    assert agreement["proxy"]
    assert agreement["n"] == 4 * 12
    assert 0 < agreement["value"] <= 1


@pytest.mark.parametrize("algorithm", ["rtn", "kquant", "hqq"])
def test_every_algorithm_is_named_in_the_details(tmp_path: Path, algorithm: str):
    _, result = compress(language_model(tmp_path / "m.onnx"), algorithm=algorithm)
    assert result.details["algorithms"] == {algorithm: 5}


def test_weights_that_were_on_a_grid_stay_as_they_were(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    rng = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        if tensor.name.startswith(("up", "down")):
            columns, rows = tensor.dims
            codes = rng.integers(0, 16, (rows, columns // 32, 32))
            codes[..., 0], codes[..., 1] = 0, 15
            values = codes * rng.uniform(0.01, 0.03, (rows, columns // 32, 1)) - 0.16  # float offsets, as in Q4_1
            tensor.CopyFrom(numpy_helper.from_array(values.reshape(rows, columns).T.astype(np.float32), tensor.name))
    onnx.save(model, str(path))
    out, result = compress(path, data=True)
    assert result.details["algorithms"] == {"exact": 4, "rtn": 1}
    assert "on such a grid before" in result.reason
    assert relative_error(logits(out), logits(path)) < 0.02


def test_excluded_nodes_stay_float(tmp_path: Path):
    out, result = compress(language_model(tmp_path / "m.onnx"), excluded=("up_0",))
    assert [n.name for n in onnx.load(str(out)).graph.node if n.op_type == "MatMul"] == ["up_0"]
    assert [(n.name, n.reason) for n in result.excluded_nodes] == [("up_0", "asked for")]


def test_weights_of_branches_and_gemms(tmp_path: Path):
    rng = np.random.default_rng(0)
    value, node = helper.make_tensor_value_info, helper.make_node
    inner = numpy_helper.from_array((rng.standard_normal((64, 64)) / 8).astype(np.float32), "inner")
    out = [value("r", TensorProto.FLOAT, None)]
    branches = {
        "then_branch": helper.make_graph([node("MatMul", ["g", "inner"], ["r"])], "a", [], out, [inner]),
        "else_branch": helper.make_graph([node("MatMul", ["g", "outer"], ["r"])], "b", [], out),
    }
    path = save(
        tmp_path / "m.onnx",
        [node("Gemm", ["x", "w", "c"], ["g"], "gemm", transB=1), node("If", ["flag"], ["y"], **branches)],
        {
            "w": (rng.standard_normal((64, 48)) / 7).astype(np.float32),
            "c": rng.standard_normal((1, 64)).astype(np.float32),
            "outer": (rng.standard_normal((64, 64)) / 8).astype(np.float32),
        },
        [value("x", TensorProto.FLOAT, ["n", 48]), value("flag", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, ["n", 64])],
    )
    for options in ({}, {"kernel": "packed"}, {"kernel": "standard"}):
        written, result = compress(path, **options)
        assert result.details["matrices"] == 3
        for flag in (True, False):
            feeds = {"x": rng.standard_normal((5, 48)).astype(np.float32), "flag": np.array(flag)}
            wanted, got = (Session(p, threads=1).run(feeds)[0] for p in (path, written))
            assert relative_error(got, wanted) < 0.2


def test_nothing_to_store_is_said(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx")
    out, result = compress(path, min_elements=10**6)
    assert not result.changed
    assert "no float matrix is worth storing in blocks" in result.reason
    np.testing.assert_array_equal(logits(out), logits(path))
    again, second = compress(compress(path)[0].rename(tmp_path / "first.onnx"))
    assert not second.changed
    assert "quantised already" in second.reason
    assert relative_error(logits(again), logits(tmp_path / "first.onnx")) == 0


def test_old_opsets_are_raised_or_packed(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx", opset=9)
    out, result = compress(path)
    assert result.changed
    assert relative_error(logits(out), logits(path)) < 0.2


def test_data_of_another_shape_is_refused_before_the_work(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx")
    bad = Split("calibration", {"other": token_ids(), "ids": token_ids()})
    with pytest.raises(DataError, match="other"):
        quantize_int4(Int4Config(), OnnxStep(path, tmp_path / "out.onnx", bad))
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        ({"algorithm": "gptq"}, "cpu", "looks at activations"),
        ({"bits": 3}, "web", "it takes 4, 8"),
        ({}, "tensorrt", "symmetric"),
        ({"kernel": "packed"}, "web", "own operators only"),
        ({"bits": 6, "accuracy_level": 0}, "cpu", "it takes 2, 4, 8"),
    ],
)
def test_what_no_kernel_can_do_is_refused(tmp_path: Path, options: dict, target: str, message: str):
    with pytest.raises(CompressError, match=message):
        compress(language_model(tmp_path / "m.onnx"), target=target, **options)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="no 3 bits"):
        Int4Config(kernel="packed", bits=3)
    with pytest.raises(ValidationError, match="5 times slower"):
        Int4Config(kernel="expanded", accuracy_level=0)


@pytest.mark.parametrize("target", ["cpu", "cpu-no-vnni", "arm", "cuda", "web"])
def test_every_target_has_its_form(target: str):
    wanted = {"cuda": "packed", "web": "standard"}.get(target, "expanded")
    assert choose_form(Int4Config(), target) == wanted  # type: ignore[arg-type]
    assert choose_form(Int4Config(symmetric=True), "tensorrt") == "standard"


def test_a_file_is_little_more_than_its_codes(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx", layers=40)
    out, _ = compress(path, embedding_bits=4)
    bits = 4 + (16 + 8) / 32 + 16 / 64  # codes; a scale and a zero point a block; a scale of the kernel's
    elements = 40 * 2 * WIDTH * 96 + 300 * WIDTH
    nodes_and_names = 81 * 1500
    assert out.stat().st_size < elements * bits / 8 + nodes_and_names
    assert path.stat().st_size > 4 * out.stat().st_size


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_wider_blocks_in_the_kernel_round_the_same_weights(tmp_path: Path, bits: int):
    path = language_model(tmp_path / "m.onnx")
    wanted = logits(rounded_copy(path, bits=bits, embedding_bits=bits))
    for kernel_block in (32, 64):
        out, _ = compress(path, bits=bits, embedding_bits=bits, kernel_block=kernel_block)
        assert ("QLinearConv" in ops(out)) == (kernel_block == 64)
        assert relative_error(logits(out), wanted) < 0.02


def test_everything_that_unpacks_is_folded_when_a_session_loads(tmp_path: Path):
    out, _ = compress(language_model(tmp_path / "m.onnx"), bits=3, embedding_bits=6)
    folded = tmp_path / "folded.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
    assert not set(ops(folded)) & {"BitShift", "QLinearConv", "BitwiseOr", "Concat", "Cast", "Reshape"}
