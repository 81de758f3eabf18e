from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.prune.graph.order import Order
from edgekit.compress.prune.graph.plan import Wish, prepare_plan
from edgekit.compress.prune.graph.sensitivity import Yardstick, affordable_samples, levels, measured_damage
from edgekit.graph.normalise import normalise
from edgekit.specs import Array
from tests.compress.prune.graph.nets import images, outputs, redundant
from tests.compress.quantize.nets import Net, normal


def softmax(values: Array) -> Array:
    e = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def test_distance_of_classes_is_their_divergence() -> None:
    one, other, split = redundant(0), redundant(1), images(40)
    p, q = softmax(outputs(one, split).astype(float)), softmax(outputs(other, split).astype(float))
    wanted = (p * np.log(p / q)).sum(axis=1).mean()
    yardstick = Yardstick(one, split, 40)
    assert yardstick.distance(other) == pytest.approx(wanted, rel=1e-4)
    assert yardstick.distance(other) == pytest.approx(wanted, rel=1e-4), "from answers that were kept"
    assert yardstick.distance(one) == 0


def test_distance_of_anything_else_is_the_error_of_its_power() -> None:
    rng = np.random.default_rng(0)
    weight = normal(rng, 4, 3, 1, 1)
    nets = []
    for scale in (1.0, 0.9):
        net = Net(image=("batch", 3, 8, 8))
        nets.append(net.model(net.add("Conv", "image", (scale * weight).astype(np.float32)), rank=4))
    assert Yardstick(nets[0], images(16), 16).distance(nets[1]) == pytest.approx(0.01, rel=1e-4)


def test_damage_between_what_was_measured_follows_the_order() -> None:
    order = Order(np.arange(4), np.array([0.0, 0.1, 0.2, 0.6, 1.0]))
    found = measured_damage(order, np.arange(4), np.array([2, 3]), [0.01, 0.05])
    np.testing.assert_allclose(found, [0, 0.005, 0.01, 0.05], atol=1e-6)
    assert np.isfinite(measured_damage(order, np.arange(4), np.array([2, 3]), [0.01, np.inf])).all()


def test_where_and_on_how_much_it_is_measured() -> None:
    assert levels(np.arange(0, 64, 8), 64).tolist() == [16, 32, 48, 56]
    assert levels(np.array([0, 8]), 16).tolist() == [8]
    assert affordable_samples(1e6, 10) == 512
    assert affordable_samples(1e12, 10) == 32


def test_the_damage_of_a_group_grows_with_what_goes() -> None:
    wish = Wish(None, 2.0, "reconstruction", "sensitivity", 4, False, 64)
    plan = prepare_plan(normalise(redundant()), wish, images(64))
    assert len(plan.choices) == 2
    for choice in plan.choices:
        assert choice.damage[0] == 0
        assert (np.diff(choice.damage) >= 0).all()
        assert choice.damage[-1] > 1e-4
