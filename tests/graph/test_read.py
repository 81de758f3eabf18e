from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.graph.read import data_files, read_model, refuse_non_finite, size_bytes
from edgekit.ort import installed_ceiling

Tree = Callable[[Path], dict[str, str]]


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        read_model(path)
    return str(error.value)


def test_a_good_file_is_read(dense_onnx: Path, dense_proto: onnx.ModelProto) -> None:
    assert read_model(dense_onnx) == dense_proto
    assert size_bytes(dense_onnx) == dense_onnx.stat().st_size
    assert data_files(dense_onnx) == []


def test_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert refusal(path) == f"model {path} is not there; give the path of an .onnx file"
    assert refusal(tmp_path) == f"model {tmp_path} is a directory; give the path of an .onnx file in it"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (0 bytes); copy or download it again"),
        (b"<!DOCTYPE html><html>404</html>", "is an HTML page, not ONNX; download the file itself"),
        (b"\n  <html><body>login</body></html>", "is an HTML page, not ONNX; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a Git LFS pointer, not ONNX"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, "(108 bytes) is truncated or not ONNX; copy or download it again"),
        (b"hello world, this is no model", "is truncated or not ONNX"),
        (b"\x08\x07", "(2 bytes) holds no graph; it is truncated or not ONNX"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, message: str, tree: Tree) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    before = tree(tmp_path)
    said = refusal(path)
    assert said.startswith(f"model {path} ")
    assert message in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(dense_onnx: Path, share: float) -> None:
    whole = dense_onnx.read_bytes()
    dense_onnx.write_bytes(whole[: int(share * len(whole))])
    said = refusal(dense_onnx)
    assert str(dense_onnx) in said
    assert "truncated" in said or "not a valid ONNX model" in said


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_never_end_in_anything_but_a_model_error(dense_onnx: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = np.frombuffer(dense_onnx.read_bytes(), np.uint8).copy()
    head = rng.integers(0, 120, 4)
    content[head] = rng.integers(0, 256, 4)
    dense_onnx.write_bytes(content.tobytes())
    said = ""
    try:
        read_model(dense_onnx)
    except ModelError as error:
        said = str(error)
    assert "\n" not in said


def test_opset_and_ir_beyond_the_runtime(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    ceiling = installed_ceiling()
    path = tmp_path / "m.onnx"
    dense_proto.opset_import[0].version = 999
    path.write_bytes(dense_proto.SerializeToString())
    assert refusal(path) == (
        f"{path} asks for opset 999; the installed ONNX Runtime loads 1 to {ceiling.opset}; "
        "export it with a supported opset"
    )
    dense_proto.opset_import[0].version = 18
    dense_proto.ir_version = 99
    path.write_bytes(dense_proto.SerializeToString())
    assert refusal(path) == (f"{path} has IR version 99; the installed ONNX Runtime loads at most {ceiling.ir_version}")


def test_no_opset_at_all(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    del dense_proto.opset_import[:]
    path.write_bytes(dense_proto.SerializeToString())
    assert refusal(path).startswith(f"{path} is not a valid ONNX model: ")


def test_custom_domain(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    dense_proto.graph.node[0].domain = "com.acme"
    dense_proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    path.write_bytes(dense_proto.SerializeToString())
    assert refusal(path) == (
        f"{path} uses operators of domains that no installed runtime registers: com.acme.Flatten; edgekit cannot run it"
    )


def test_a_graph_that_the_checker_refuses(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    dense_proto.graph.node[1].input[0] = "nowhere"
    path.write_bytes(dense_proto.SerializeToString())
    assert refusal(path).startswith(f"{path} is not a valid ONNX model: ")
    assert "nowhere" in refusal(path)


@pytest.mark.parametrize("dims", [[2**40, 2**40], [-1, 10], [64, 11]])
def test_dimensions_that_the_bytes_do_not_bear_out(dense_proto: onnx.ModelProto, tmp_path: Path, dims: Any) -> None:
    path = tmp_path / "m.onnx"
    weight = dense_proto.graph.initializer[0]
    del weight.dims[:]
    weight.dims.extend(dims)
    path.write_bytes(dense_proto.SerializeToString())
    assert refusal(path).startswith(f"{path} is not a valid ONNX model: ")


@pytest.fixture
def external(dense_proto: onnx.ModelProto, tmp_path: Path) -> Callable[..., Path]:
    """Write the model with its weight in w.bin; keyword arguments replace what the model says about it."""
    data = tmp_path / "in" / "w.bin"
    data.parent.mkdir()
    data.write_bytes(bytes(dense_proto.graph.initializer[0].raw_data))

    def write(**told: object) -> Path:
        weight = dense_proto.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "w.bin", "offset": 0, "length": 2560, **told}.items():
            if value is not None:
                weight.external_data.add(key=key, value=str(value))
        path = data.parent / "m.onnx"
        path.write_bytes(dense_proto.SerializeToString())
        return path

    return write


@pytest.mark.parametrize("told", [{}, {"length": None}, {"offset": None}])
def test_external_data_is_read(external: Callable[..., Path], told: dict[str, Any], dense_weight: Any) -> None:
    path = external(**told)
    np.testing.assert_array_equal(numpy_helper.to_array(read_model(path).graph.initializer[0]), dense_weight)
    assert data_files(path) == [path.parent / "w.bin"]
    assert size_bytes(path) == path.stat().st_size + 2560


def test_external_data_missing(external: Callable[..., Path]) -> None:
    path = external()
    (path.parent / "w.bin").unlink()
    assert refusal(path) == f"{path}: external data is missing beside it: w.bin"


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin", "C:\\w.bin", "w\0.bin", ""]
)
def test_external_data_outside(external: Callable[..., Path], location: str) -> None:
    path = external(location=location)
    assert refusal(path) == (
        f"{path}: external data of 'weight' points outside its directory ({location!r}); "
        "edgekit reads only files beside the model"
    )


def test_external_data_that_is_a_link_out(external: Callable[..., Path]) -> None:
    path = external()
    secret = path.parent.parent / "secret.bin"
    (path.parent / "w.bin").rename(secret)
    (path.parent / "w.bin").symlink_to(secret)
    assert "external data of 'weight' is a link out of its directory ('w.bin'); copy the file beside the model" in (
        refusal(path)
    )


@pytest.mark.parametrize(
    "told",
    [
        {"offset": 4},
        {"offset": 2**60},
        {"length": 2**50},
        {"length": 2556},
    ],
)
def test_external_data_with_impossible_bounds(external: Callable[..., Path], told: dict[str, Any]) -> None:
    path = external(**told)
    said = refusal(path)
    assert said.startswith(f"{path}: external data of 'weight' wants ")
    assert said.endswith("of 'w.bin' for a tensor of 2,560 bytes, and the file has 2,560; copy or export it again")


@pytest.mark.parametrize("told", [{"offset": "x"}, {"length": "1e3"}, {"offset": ""}, {"offset": -4}, {"length": -1}])
def test_external_data_with_bounds_that_are_no_numbers(external: Callable[..., Path], told: dict[str, Any]) -> None:
    path = external(**told)
    said = refusal(path)
    assert said.startswith(f"{path}: external data of 'weight' has no usable bounds (")
    assert said.endswith("); copy or export it again")


def test_external_data_of_a_type_that_does_not_exist(
    external: Callable[..., Path], dense_proto: onnx.ModelProto
) -> None:
    dense_proto.graph.initializer[0].data_type = 99
    path = external()
    assert refusal(path) == (
        f"{path}: external data of 'weight' has the element type 99, which ONNX does not know; export it again"
    )


def test_external_data_with_keys_that_nobody_knows(external: Callable[..., Path]) -> None:
    assert read_model(external(colour="blue")).graph.initializer[0].raw_data


def test_external_data_that_is_a_link_within_the_directory(external: Callable[..., Path]) -> None:
    path = external()
    (path.parent / "w.bin").rename(path.parent / "real.bin")
    (path.parent / "w.bin").symlink_to("real.bin")
    assert refusal(path).startswith(f"{path} is not a valid ONNX model: ")


def test_more_bytes_than_a_protobuf_can_hold_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(3_000_000_000)
    assert f"model {path} has 3,000,000,000 bytes, and an .onnx file holds at most 2,147,483,647" in refusal(path)


def test_external_data_too_short(external: Callable[..., Path]) -> None:
    path = external()
    (path.parent / "w.bin").write_bytes(b"\0" * 100)
    assert "and the file has 100; copy or export it again" in refusal(path)


def test_external_data_of_a_subgraph_is_checked_too(dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    body = helper.make_graph([helper.make_node("Identity", ["hidden"], ["o"])], "b", [], [], [tensor])
    dense_proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
    path = tmp_path / "m.onnx"
    path.write_bytes(dense_proto.SerializeToString())
    assert "external data of 'hidden' points outside its directory" in refusal(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(dense_proto: onnx.ModelProto, dense_weight: Any, bad: float) -> None:
    broken = dense_weight.copy()
    broken[3, :2] = bad
    dense_proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "weight"))
    with pytest.raises(ModelError) as error:
        refuse_non_finite(dense_proto, Path("m.onnx"))
    assert str(error.value) == (
        "m.onnx: weight 'weight' holds 2 values that are NaN or Inf (of 640); the model is broken, export it again"
    )


def test_an_infinite_mask_of_one_element_may_stay(dense_proto: onnx.ModelProto) -> None:
    dense_proto.graph.initializer.append(numpy_helper.from_array(np.array(-np.inf, np.float32), "mask"))
    refuse_non_finite(dense_proto, Path("m.onnx"))
    dense_proto.graph.initializer.append(numpy_helper.from_array(np.full(2, -np.inf, np.float32), "weight"))
    with pytest.raises(ModelError, match="'weight' holds 2 values that are NaN or Inf"):
        refuse_non_finite(dense_proto, Path("m.onnx"))
