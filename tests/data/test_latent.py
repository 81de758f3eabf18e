from __future__ import annotations

import numpy as np

from edgekit.data import add_latents, for_model, load_split
from edgekit.data.digits import load
from edgekit.specs import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 1, 8, 8))
NOISE = TensorSpec("noise", "float32", ("batch", 4))
Z = TensorSpec("z", "float32", ("batch", 6))


def test_a_model_that_takes_the_data_gets_it_as_it_is() -> None:
    data = load()
    assert for_model(data, data.inputs) is data


def test_noise_is_standard_normal_the_same_each_time_and_another_in_each_split() -> None:
    first, again = (for_model(load(task="reconstruction"), (IMAGE, NOISE)) for _ in range(2))
    assert first.latents == ("noise",)
    train, test = (first.splits[s].arrays["noise"] for s in ("train", "test"))
    assert train.shape == (1000, 4)
    assert train.dtype == np.float32
    assert abs(float(train.mean())) < 0.05
    assert abs(float(train.std()) - 1) < 0.05
    np.testing.assert_array_equal(test, again.splits["test"].arrays["noise"])
    assert not np.array_equal(train[:360], test)


def test_pictures_become_the_labels_of_a_generator() -> None:
    data = load(task="generation")
    made = for_model(data, (Z,)).splits["test"]
    assert list(made.arrays) == ["z"]
    np.testing.assert_array_equal(made.labels, data.splits["test"].arrays["image"])  # type: ignore[arg-type]


def test_the_ranges_of_pixels_are_the_tasks() -> None:
    reconstruct, generate = (load(task=t).splits["train"].arrays["image"] for t in ("reconstruction", "generation"))
    assert (reconstruct.min(), reconstruct.max()) == (0, 1)
    assert (generate.min(), generate.max()) == (-1, 1)


def test_preprocessing_can_be_undone() -> None:
    from sklearn.datasets import load_digits

    pixels = load_digits().images[:5]
    for task in ("classification", "reconstruction", "generation"):
        preparation = load(task=task).preprocessing
        assert preparation is not None
        np.testing.assert_allclose(preparation.inverse(preparation(pixels))[:, 0], pixels, atol=1e-4)


def test_a_named_split_for_a_model_of_ours() -> None:
    assert set(load_split("digits", "test", task="reconstruction", inputs=(IMAGE, NOISE)).arrays) == {"image", "noise"}
    foreign = load_split("digits", "test", inputs=(TensorSpec("x", "float32", ("n", 1, 8, 8)),))
    assert set(foreign.arrays) == {"image"}


def test_what_cannot_be_drawn_stays_missing() -> None:
    ids = TensorSpec("ids", "int64", ("batch", 4))
    assert set(add_latents(load().splits["test"], (IMAGE, ids)).arrays) == {"image"}


def test_pictures_under_another_name_are_no_noise() -> None:
    data, renamed = load(), TensorSpec("pixel_values", "float32", ("batch", 1, 8, 8))
    assert for_model(data, (renamed,)) is data
    split = load_split("digits", "test", task="classification", inputs=(renamed,))
    assert set(split.arrays) == {"image"}
