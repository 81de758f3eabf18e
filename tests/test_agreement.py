from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgekit.agreement import Remembering, agreement, kind_of
from edgekit.data.split import Split
from edgekit.specs import Array, Feeds, TensorSpec

RNG = np.random.default_rng(0)
X = RNG.standard_normal((150, 4)).astype(np.float32)
WEIGHT = RNG.standard_normal((4, 3)).astype(np.float32)
SPLIT = Split("s", {"x": X})


@dataclass(frozen=True)
class Linear:
    """x (n, 4) -> x @ weight, and a second output where there is one."""

    weight: Array
    second: Array | None = None
    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "float32", ("batch", 4)),)

    def run(self, feeds: Feeds) -> list[Array]:
        weights = [self.weight] if self.second is None else [self.weight, self.second]
        return [feeds["x"] @ w for w in weights]


def test_classes_with_themselves_and_with_their_negative() -> None:
    assert agreement(Linear(WEIGHT), Linear(WEIGHT), SPLIT).value == 1.0
    other = agreement(Linear(WEIGHT), Linear(-WEIGHT), SPLIT)
    assert (other.value, other.proxy, other.name, other.n) == (0.0, True, "agreement", 150)


def test_cosine_where_there_are_no_classes() -> None:
    one = Linear(WEIGHT[:, :1])
    assert agreement(one, Linear(2 * WEIGHT[:, :1]), SPLIT).value == pytest.approx(1.0)
    assert agreement(one, Linear(-WEIGHT[:, :1]), SPLIT).value == pytest.approx(-1.0)


def test_the_worst_output_counts() -> None:
    value = agreement(Linear(WEIGHT, WEIGHT), Linear(WEIGHT, -WEIGHT), SPLIT)
    assert value.value == pytest.approx(-1.0)


def test_classes_are_looked_for_in_the_first_output_only() -> None:
    flipped = WEIGHT + 0.05 * RNG.standard_normal(WEIGHT.shape).astype(np.float32)
    value = agreement(Linear(WEIGHT, WEIGHT), Linear(WEIGHT, flipped), SPLIT)
    assert 0.9 < value.value < 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_agrees_with_nothing(bad: float) -> None:
    with np.errstate(invalid="ignore"):
        value = agreement(Linear(WEIGHT), Linear(np.full_like(WEIGHT, bad)), SPLIT).value
    assert value == 0.0


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (RNG.standard_normal((5, 10)), "agreement"),
        (np.array([[0.6, 0.8], [1.0, 0.0]]) * [[1.0, -1.0]], "cosine"),  # rows of length 1
        (np.array([[1.0, 0.0], [0.0, 1.0]]), "agreement"),  # a distribution that is sure
        (np.full((2, 7, 32), 1 / 32), "agreement"),  # classes at each position
        (RNG.random((2, 1, 8, 8)), "closeness"),  # a map of probabilities
        (RNG.standard_normal((2, 3, 8, 8)), "cosine"),
        (RNG.standard_normal((2, 1)), "cosine"),
        (np.arange(4), "cosine"),
    ],
)
def test_what_an_output_is_compared_by(output: Array, kind: str) -> None:
    assert kind_of(output) == kind


def test_closeness_of_a_map_is_one_minus_the_rms_difference() -> None:
    @dataclass(frozen=True)
    class Map:
        shift: float
        inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "float32", ("batch", 4)),)

        def run(self, feeds: Feeds) -> list[Array]:
            return [np.full((len(feeds["x"]), 1, 2, 2), 0.5 + self.shift)]

    value = agreement(Map(0.0), Map(0.25), SPLIT)
    assert value.name == "closeness"
    assert value.value == pytest.approx(0.75)


def test_what_was_answered_before_is_not_asked_again() -> None:
    asked: list[float] = []

    class Doubling:
        inputs = (TensorSpec("x", "float32", ("batch", 3)),)

        def run(self, feeds: Feeds) -> list[Array]:
            asked.append(float(feeds["x"].sum()))
            return [2 * feeds["x"]]

    runner = Remembering(Doubling(), most_bytes=60)
    one, two, three = (np.full((2, 3), k, np.float32) for k in (1, 2, 3))
    for x in (one, two, one, three, two.copy(), three):
        np.testing.assert_array_equal(runner.run({"x": x})[0], 2 * x)
    assert asked == [6, 12, 18, 18]  # 24 bytes each: the third does not fit any more
    assert runner.run({"x": one.reshape(3, 2)})[0].shape == (3, 2)
    assert runner.inputs[0].name == "x"


def test_sequences_and_strings_are_asked_every_time() -> None:
    class Counting:
        inputs = ()
        runs = 0

        def run(self, feeds: Feeds) -> list[Array]:
            self.runs += 1
            return []

    counting = Counting()
    for feeds in ({"x": [np.ones(2)]}, {"x": np.array(["a"], object)}):
        for _ in range(2):
            Remembering(counting).run(feeds)  # type: ignore[arg-type]
    assert counting.runs == 4
