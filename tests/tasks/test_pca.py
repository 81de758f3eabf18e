from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from edgekit.data import load_split
from edgekit.tasks.pca import best_floor, likelihood, principal_components

TRAIN = load_split("digits", "train", task="reconstruction").arrays["image"]
TEST = load_split("digits", "test", task="reconstruction").arrays["image"]


def test_reconstruction_against_scikit_learn() -> None:
    theirs = PCA(8, svd_solver="full").fit(TRAIN.reshape(len(TRAIN), -1))
    wanted = theirs.inverse_transform(theirs.transform(TEST.reshape(len(TEST), -1)))
    np.testing.assert_allclose(principal_components(TRAIN, 8).reconstruct(TEST), wanted, atol=1e-4)


def test_all_components_give_the_picture_back() -> None:
    np.testing.assert_allclose(
        principal_components(TRAIN, 64).reconstruct(TEST), TEST.reshape(len(TEST), -1), atol=1e-5
    )


def test_likelihood_of_a_known_picture() -> None:
    """A perfect reconstruction of one black and one white pixel, held at a tenth: 2 log 0.9."""
    pictures = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    found = likelihood(principal_components(pictures, 2), pictures[:1], 0.1)
    assert found == pytest.approx([2 * np.log(0.9)])


def test_more_components_are_likelier_and_the_floor_is_the_best_one() -> None:
    values = []
    for count in (2, 8, 32):
        components = principal_components(TRAIN, count)
        floor = best_floor(components, TRAIN)
        assert likelihood(components, TRAIN, floor).mean() >= likelihood(components, TRAIN, 0.001).mean()
        values.append(likelihood(components, TEST, floor).mean())
    assert values == sorted(values)
