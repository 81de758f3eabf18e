from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.errors import ModelError
from edgekit.ort import tensorrt
from edgekit.ort.tensorrt import (
    ShapeRange,
    parse_range,
    range_options,
    shape_ranges,
    sparsity_options,
    tensorrt_version,
)
from edgekit.specs import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 3, "height", "width"))
SCALE = TensorSpec("scale", "float32", (1,))
USED = [{"image": (b, 3, 64, 64), "scale": (1,)} for b in (1, 4, 32)]


def test_ranges_cover_every_shape_that_is_used_and_are_best_in_the_middle() -> None:
    ranges = shape_ranges([IMAGE, SCALE], USED, {})
    assert {name: str(found) for name, found in ranges.items()} == {"image": "1x3x64x64:4x3x64x64:32x3x64x64"}
    (two,) = shape_ranges([IMAGE, SCALE], USED[:2], {}).values()
    assert two.best == (4, 3, 64, 64)
    (one,) = shape_ranges([IMAGE, SCALE], USED[:1], {}).values()
    assert str(one) == "1x3x64x64:1x3x64x64:1x3x64x64"
    assert shape_ranges([SCALE], USED, {}) == {}


def test_a_range_that_was_given_wins() -> None:
    name, wanted = parse_range("image=1x3x32x32:8x3x64x64:64x3x128x128")
    assert shape_ranges([IMAGE, SCALE], USED, {name: wanted}) == {"image": wanted}
    assert wanted.covers((64, 3, 33, 128))
    assert not wanted.covers((65, 3, 33, 128))
    assert not wanted.covers((64, 3, 33))


@pytest.mark.parametrize(
    "text",
    [
        "image",
        "image=1x3",
        "=1:2:3",
        "image=1x3:2x3",
        "image=1x3:2x3:0x3",
        "image=1x-3:2x3:4x3",
        "image=1:2:3:4",
        "i=:1:2",
    ],
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ModelError, match=r"got no name=LEAST:BEST:MOST of three shapes; write it as --trt-profile"):
        parse_range(text)


@pytest.mark.parametrize("text", ["i=2x3:1x3:4x3", "i=1x3:5x3:4x3", "i=4x3:4x3:1x3", "i=1x3:1x3:4x3x1", "i=1:1x3:4x3"])
def test_ranges_that_shrink(text: str) -> None:
    with pytest.raises(ModelError, match="each dimension must grow, or stay, from LEAST over BEST to MOST"):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture=1:1:1", "names unknown input picture; the model has image: float32 batchx3xheightxwidth, scale: "),
        ("image=1x3:1x3:1x3", "does not fit input image: float32 batchx3xheightxwidth"),
        ("image=1x1x8x8:1x3x8x8:1x4x8x8", "does not fit input image"),
        ("image=1x3x64x64:2x3x64x64:16x3x64x64", "does not cover 32x3x64x64, which is measured; widen it"),
        ("scale=1:2:3", "does not fit input scale: float32 1"),
    ],
)
def test_ranges_that_do_not_fit_the_model(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        shape_ranges([IMAGE, SCALE], USED, dict([parse_range(text)]))


def test_options_are_written_as_onnx_runtime_reads_them() -> None:
    ranges = {"ids": ShapeRange((1, 8), (4, 16), (8, 32)), "mask": ShapeRange((1, 1), (2, 2), (3, 3))}
    assert range_options(ranges) == {
        "trt_profile_min_shapes": "ids:1x8,mask:1x1",
        "trt_profile_opt_shapes": "ids:4x16,mask:2x2",
        "trt_profile_max_shapes": "ids:8x32,mask:3x3",
    }
    assert range_options({}) == {}


@pytest.mark.parametrize("name", ["input:0", "a,b"])
def test_names_that_the_options_cannot_hold_get_none(name: str) -> None:
    assert range_options({name: ShapeRange((1,), (1,), (1,))}) == {}


def test_the_version_is_asked_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build a library with")
    source, built = tmp_path / "infer.c", tmp_path / "libnvinfer_test.so"
    source.write_text("int getInferLibVersion(void) { return 101302; }")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(built), str(source)], check=True)
    assert ctypes.CDLL(str(built))
    monkeypatch.setattr(tensorrt, "_LIBRARIES", ("libno_such_thing.so", str(built)))
    assert tensorrt_version() == "10.13.2"
    monkeypatch.setattr(tensorrt, "_LIBRARIES", ("libno_such_thing.so",))
    assert tensorrt_version() is None


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "unstructured", None])
def test_kernels_for_two_of_four_are_tried_where_the_file_says_so(pattern: str | None) -> None:
    told = sparsity_options({"edgekit.sparsity": pattern} if pattern else {})
    assert told == ({"trt_sparsity_enable": "1"} if pattern == "2:4" else {})
