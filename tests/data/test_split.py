from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data.split import Split, load_npz, own_memory
from edgekit.errors import DataError
from edgekit.specs import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 1, 8, 8))
IDS = TensorSpec("ids", "int64", ("batch", "length"))
MASK = TensorSpec("mask", "int64", ("batch", "length"))


def images(n: int, **kw: Any) -> np.ndarray[Any, Any]:
    return np.arange(n * 64, dtype=kw.get("dtype", np.float32)).reshape(n, 1, 8, 8)


def refusal(split: Split, *inputs: TensorSpec) -> str:
    with pytest.raises(DataError) as error:
        split.matched(inputs)
    return str(error.value)


def test_batches_cover_every_sample_once_in_order() -> None:
    split = Split("s", {"image": images(10)}, np.arange(10)).matched([IMAGE])
    parts = list(split.batches([IMAGE], 4))
    assert [p.n for p in parts] == [4, 4, 2]
    assert [p.feeds["image"].shape for p in parts] == [(4, 1, 8, 8), (4, 1, 8, 8), (2, 1, 8, 8)]
    np.testing.assert_array_equal(np.concatenate([p.feeds["image"] for p in parts]), images(10))
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), np.arange(10))


def test_a_fixed_batch_is_filled_up_and_says_how_many_are_real() -> None:
    spec = TensorSpec("image", "float32", (4, 1, 8, 8))
    parts = list(Split("s", {"image": images(6)}, np.arange(6)).matched([spec]).batches([spec], 64))
    assert [p.n for p in parts] == [4, 2]
    assert parts[1].feeds["image"].shape == (4, 1, 8, 8)
    np.testing.assert_array_equal(parts[1].feeds["image"][2:], np.repeat(images(6)[5:], 2, axis=0))
    np.testing.assert_array_equal(parts[1].labels, [4, 5])


def test_one_more_axis_means_whole_feeds() -> None:
    split = Split("s", {"ids": np.ones((3, 2, 5), np.int64), "mask": np.ones((3, 2, 5), np.int64)}).matched([IDS, MASK])
    parts = list(split.batches([IDS, MASK], 64))
    assert split.whole_feeds
    assert [p.feeds["ids"].shape for p in parts] == [(2, 5)] * 3


def test_one_array_meets_one_input_whatever_its_name() -> None:
    assert list(Split("s", {"x": images(2)}).matched([IMAGE]).arrays) == ["image"]


def test_integers_are_widened_and_floats_are_narrowed_to_floats() -> None:
    assert Split("s", {"ids": np.ones((2, 3), np.int32)}).matched([IDS]).arrays["ids"].dtype == np.int64
    assert Split("s", {"image": images(2, dtype=np.float64)}).matched([IMAGE]).arrays["image"].dtype == np.float32


def test_take_cuts_arrays_and_labels() -> None:
    split = Split("s", {"image": images(5)}, np.arange(5)).take(2)
    assert len(split) == 2
    assert split.labels is not None
    assert split.labels.tolist() == [0, 1]


@pytest.mark.parametrize("arrays", [{"ids": np.ones((2, 3))}, {"ids": np.ones((2, 3)), "masc": np.ones((2, 3))}])
def test_wrong_names_are_answered_with_both_lists(arrays: dict[str, Any]) -> None:
    message = refusal(Split("s", arrays), IDS, MASK)
    has = ", ".join(arrays)
    assert message == f"data 's' does not fit the model's inputs: the model wants ids, mask; the data has {has}"


def test_no_arrays_at_all() -> None:
    assert refusal(Split("s", {}), IMAGE).endswith("the model wants image; the data has none")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 8, 8), np.float32), "rank 3 (2, 8, 8) does not fit image: float32 batchx1x8x8"),
        (np.ones((2, 3, 8, 8), np.float32), "shape (2, 3, 8, 8) does not fit image: float32 batchx1x8x8; dimension 1 "),
        (np.ones((2, 1, 8, 9), np.float32), "dimension 3 must be 8"),
        (np.ones((2, 5, 1, 8, 9), np.float32), "dimension 3 must be 8"),
        (np.array([["a"] * 64] * 2).reshape(2, 1, 8, 8), "dtype <U1 does not fit"),
        (np.ones((2, 1, 8, 8), np.complex64), "dtype complex64 does not fit"),
        (np.full((2, 1, 8, 8), None), "dtype object does not fit"),
        (np.ones((0, 1, 8, 8), np.float32), "has no samples; give at least one"),
    ],
)
def test_arrays_that_do_not_fit(array: np.ndarray[Any, Any], message: str) -> None:
    said = refusal(Split("s", {"image": array}), IMAGE)
    assert said.startswith("data 's'")
    assert message in said


def test_floats_are_not_rounded_to_integers() -> None:
    message = refusal(Split("s", {"ids": np.ones((2, 3), np.float32)}), IDS)
    assert message == (
        "data 's', input 'ids': dtype float32 does not fit ids: int64 batchxlength; convert the array to int64"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_by_their_sample(bad: float) -> None:
    array = images(2000)
    array[1500, 0, 3, 3] = bad
    message = refusal(Split("s", {"image": array}), IMAGE)
    assert message == "data 's', input 'image': sample 1500 holds NaN or Inf; remove or mend it"


def test_arrays_and_labels_of_different_length() -> None:
    arrays = {"ids": np.ones((2, 3), np.int64), "mask": np.ones((3, 3), np.int64)}
    assert "differ in their number of samples (ids: 2, mask: 3)" in refusal(Split("s", arrays), IDS, MASK)
    assert refusal(Split("s", {"image": images(3)}, np.arange(2)), IMAGE) == "data 's': 2 labels for 3 samples"


def npz_refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        load_npz(path)
    return str(error.value)


def test_npz_gives_arrays_and_takes_labels_out(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, image=images(3), labels=np.arange(3))
    split = load_npz(path)
    assert (split.name, list(split.arrays), split.labels.tolist()) == (str(path), ["image"], [0, 1, 2])  # type: ignore[union-attr]


def test_npz_not_there(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    assert npz_refusal(path) == (
        f"data {path} is not there; give an .npz or the name of a data set (`edgekit list data`)"
    )


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04" + b"\0" * 40])
def test_npz_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    assert npz_refusal(path).startswith(f"data {path} is not a readable .npz of plain arrays: ")
    assert path.read_bytes() == content


def test_npz_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, image=images(30))
    path.write_bytes(path.read_bytes()[:3000])
    assert "is not a readable .npz" in npz_refusal(path)


def test_npz_with_a_member_cut_short(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00")
    assert "is not a readable .npz" in npz_refusal(path)


def test_npz_with_a_member_that_is_no_array(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    assert "is not a readable .npz" in npz_refusal(path)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch owned",)


def test_npz_of_objects_is_refused_and_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "d.npz"
    np.savez(path, image=np.array([Evil(), None], dtype=object))
    assert "is not a readable .npz of plain arrays: Object arrays cannot be loaded" in npz_refusal(path)
    assert not (tmp_path / "owned").exists()


def test_npy_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with path.open("wb") as file:
        np.save(file, images(3))
    assert "is not a readable .npz" in npz_refusal(path)


def test_npz_with_damaged_bytes(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez_compressed(path, image=np.random.default_rng(0).standard_normal(1000))
    packed = path.read_bytes()
    path.write_bytes(packed[:300] + b"\xff" * 300 + packed[600:])
    assert "is not a readable .npz" in npz_refusal(path)


def test_npz_with_a_scalar(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, image=images(3), scale=np.float32(3))
    assert npz_refusal(path) == f"data {path}: array 'scale' is a scalar; axis 0 must count the samples"


def test_batches_of_large_samples_are_small() -> None:
    data = Split("x", {"image": np.zeros((10, 3, 100, 100), np.float32), "ids": np.zeros((10, 7), np.int64)})
    assert data.affordable(8, 30_007 * 5) == 5
    assert data.affordable(4, 30_007 * 5) == 4
    assert data.affordable(8, 10) == 1


def test_a_model_of_other_heads_begins_with_a_memory_of_its_own() -> None:
    """Of pruned blocks there is nothing to feed, and of pruned heads less; what fits is what was remembered."""
    feeds = {"ids": np.ones((3, 5), np.int64), "past.0": np.ones((3, 2, 4, 8), np.float32)}
    two = TensorSpec("past.0", "float32", ("batch", 2, "past", 8))
    one = TensorSpec("past.0", "float32", ("batch", 1, "past", 8))
    other = TensorSpec("past.1", "float32", ("batch", 2, "past", 8))
    assert own_memory((IDS, two), feeds) == feeds
    assert own_memory((IDS, one), feeds)["past.0"].shape == (3, 1, 0, 8)
    assert own_memory((IDS, other), feeds).keys() == {"ids", "past.1"}
    assert own_memory((MASK,), feeds) is feeds, "a model without a memory is fed as it was"
