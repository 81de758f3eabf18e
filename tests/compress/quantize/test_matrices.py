from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.compress.quantize.matrices import Matrix, block_for, find_matrices
from edgekit.graph.normalise import normalise
from tests.compress.quantize.language import HIDDEN, VOCABULARY, WIDTH, language_model, save


def find(path: Path, **options: object) -> tuple[dict[str, Matrix], dict[str, str]]:
    settings = {"min_elements": 256, "embeddings": True, **options}
    found, kept = find_matrices(normalise(onnx.load(str(path))), **settings)  # type: ignore[arg-type]
    return {m.name: m for m in found}, kept


def test_products_are_found_in_the_orientation_of_their_outputs(tmp_path: Path):
    found, _ = find(language_model(tmp_path / "m.onnx", head="apart"))
    assert set(found) == {"table", "up0", "down0", "up1", "down1", "head"}
    assert found["up0"].shape == (HIDDEN, WIDTH) == found["up0"].rows.shape
    assert found["table"].shape == (VOCABULARY, WIDTH)
    assert [n.op_type for n in found["table"].lookups] == ["Gather"]


def test_a_transposed_table_is_one_matrix_for_both(tmp_path: Path):
    found, _ = find(language_model(tmp_path / "m.onnx", head="transpose"))
    assert [n.name for n in found["table"].products] == ["head"]
    assert found["table"].turned == ("turned",)


def test_a_copied_table_is_recognised(tmp_path: Path):
    found, _ = find(language_model(tmp_path / "m.onnx", head="copy"))
    assert found["head"].same_as == "table"
    assert found["up0"].same_as == ""


def test_what_stays_float_has_a_reason(tmp_path: Path):
    path = language_model(tmp_path / "m.onnx", head="apart")
    assert find(path, excluded={"up_0"})[1]["up0"] == "a node that reads it is excluded"
    assert find(path, min_elements=10_000)[1]["down1"] == "small"
    assert "switched off" in find(path, embeddings=False)[1]["table"]


@pytest.mark.parametrize(
    ("attributes", "bias", "fits"),
    [
        ({}, (40,), True),
        ({"transB": 1}, (1, 40), True),
        ({}, (1,), True),
        ({}, None, True),
        ({"transA": 1}, (40,), False),
        ({"alpha": 0.5}, (40,), False),
        ({"beta": 0.5}, (40,), False),
        ({}, (32, 1), False),
    ],
)
def test_a_gemm_is_a_product_where_the_kernel_can_do_it(tmp_path: Path, attributes, bias, fits: bool):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((40, 32) if attributes.get("transB") else (32, 40)).astype(np.float32)
    weights = {"w": weight, **({} if bias is None else {"c": rng.standard_normal(bias).astype(np.float32)})}
    node = helper.make_node("Gemm", ["x", *weights], ["y"], "gemm", **attributes)
    shape = (32, 32)
    path = save(
        tmp_path / "m.onnx",
        [node],
        weights,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [32, 40])],
    )
    found, kept = find(path)
    assert ("w" in found) == fits
    assert fits or "something other than a product" in kept["w"]
    if fits:
        assert found["w"].shape == (40, 32)


def test_a_weight_read_in_two_orientations_or_elsewhere_stays(tmp_path: Path):
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Gemm", ["x", "w"], ["b"], transB=1),
        helper.make_node("Mul", ["a", "b"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["d"]),
        helper.make_node("Add", ["d", "v"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    path = save(
        tmp_path / "m.onnx",
        nodes,
        {"w": weight, "v": weight + 1},
        [value("x", TensorProto.FLOAT, [32, 32])],
        [value("y", TensorProto.FLOAT, [32, 32])],
    )
    found, kept = find(path)
    assert not found
    assert set(kept) == {"w", "v"}


@pytest.mark.parametrize(
    ("columns", "wished", "whole", "block"),
    [
        (576, 32, True, 32),
        (576, 128, True, 64),
        (72, 32, False, 32),
        (72, 32, True, 0),
        (48, 64, True, 16),
        (8, 32, False, 0),
    ],
)
def test_blocks_divide_the_columns_where_they_can(columns: int, wished: int, whole: bool, block: int):
    assert block_for(columns, wished, whole=whole) == block
