"""Least squares and the order of channels, against NumPy."""

from __future__ import annotations

import numpy as np

from edgekit.compress.prune.graph.ends import end_of
from edgekit.compress.prune.graph.fit import Layer, fit_layer, fit_without
from edgekit.compress.prune.graph.groups import find_channels
from edgekit.compress.prune.graph.order import order_by_energy, order_by_reconstruction, order_by_weights
from edgekit.compress.prune.graph.statistics import Moments, Tally, observe_ends
from edgekit.graph.normalise import normalise
from edgekit.specs import Array
from tests.compress.prune.graph.nets import images, redundant
from tests.compress.quantize.nets import Net


def rows(seed: int, count: int = 400) -> Array:
    """Of six columns, the last two made of the first ones; float32 (1, count, 6)."""
    rng = np.random.default_rng(seed)
    free = rng.standard_normal((count, 4)) + 0.5
    return np.concatenate([free, free[:, :2] @ [[1, 2], [3, -1]] + 1.0], axis=1).astype(np.float32)[None]


def test_a_layer_is_fitted_to_what_it_should_give() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((1, 3, 6)), rng.standard_normal((1, 3))
    learnt, held_out = Tally(), Tally()
    for tally, seed in ((learnt, 1), (held_out, 2)):
        x = rows(seed)
        tally.add(x[:, :, :5], (x @ weight.transpose(0, 2, 1) + bias[:, None]).astype(np.float32))
    fitted = fit_layer(Layer(weight[:, :, :5], bias), learnt, held_out, with_bias=True)
    assert fitted.before > 0.03
    assert fitted.after < 1e-6, "the sixth column is made of the first two and a constant"
    x = rows(3)
    np.testing.assert_allclose(
        x[0, :, :5] @ fitted.layer.matrices[0].T + fitted.layer.bias, x[0] @ weight[0].T + bias, atol=1e-2
    )


def test_a_fit_that_does_not_hold_on_other_rows_is_not_taken() -> None:
    rng = np.random.default_rng(0)
    layer = Layer(rng.standard_normal((1, 2, 6)), np.zeros((1, 2)))
    learnt, held_out = Tally(), Tally()
    learnt.add(rows(1, 8), rng.standard_normal((1, 8, 2)).astype(np.float32))
    x = rows(2)
    held_out.add(x, (x @ layer.matrices.transpose(0, 2, 1)).astype(np.float32))
    fitted = fit_layer(layer, learnt, held_out, with_bias=True)
    assert fitted.layer is layer
    assert fitted.after == fitted.before


def test_columns_that_are_made_of_others_are_made_good() -> None:
    tally, x = Tally(), rows(1)
    tally.add(x)
    weight, left = np.random.default_rng(0).standard_normal((1, 3, 6)), np.array([0, 1, 2, 3])
    fitted = fit_without(weight, tally.moments(), left)
    wanted = x[0] @ weight[0].T
    got = x[0][:, left] @ fitted.matrices[0].T + fitted.bias
    assert np.square(wanted - got).mean() < 1e-3 * np.square(wanted).mean()


def dense(weight: Array, reader: Array) -> tuple[Net, str]:
    net = Net(x=("batch", weight.shape[0]))
    return net, net.add("MatMul", net.add("Relu", net.add("MatMul", "x", weight)), reader)


def test_orders_of_channels() -> None:
    """Channel 2 has small weights, 1 is hardly read, 0 is read much but says what 3 says."""
    weight = np.diag([1.0, 1.0, 0.1, 1.0]).astype(np.float32)
    reader = np.array([[1.0, 1], [0.01, 0], [5, 5], [1.2, 1]], np.float32)
    net, y = dense(weight, reader)
    channels = find_channels(normalise(net.model(y)))
    (group,) = channels.groups
    ends = [end_of(channels.model, channels.tracing.constants, c) for c in group.ends]
    covariance = np.diag([1.0, 1.0, 1.0, 1.0])
    covariance[0, 3] = covariance[3, 0] = 0.999
    moments = [Moments(np.zeros((1, 4)), covariance[None])]

    def places(units: Array) -> list[int]:
        return [group.units.tolist().index(u) for u in units.tolist()]

    assert places(order_by_energy(channels, group, ends, moments).units) == [1, 0, 3, 2]
    found = order_by_reconstruction(channels, group, ends, moments)
    assert set(places(found.units)[:2]) <= {0, 1, 3}
    assert places(found.units)[-1] == 2
    assert found.damage[2] < 1e-3 < found.damage[3], "two channels cost next to nothing, the third does not"
    by_weights = order_by_weights(channels, group, 2)
    assert places(by_weights.units)[0] == 1
    assert by_weights.damage[-1] == 1.0


def test_moments_are_those_of_what_a_convolution_sees() -> None:
    model = normalise(redundant())
    channels = find_channels(model)
    ends = [end_of(model, channels.tracing.constants, c) for c in channels.groups[0].ends]
    moments = observe_ends(model, ends, images(64), 64)
    assert [m.covariance.shape for m in moments if m] == [(1, 144, 144), (1, 16, 16)]
    for seen in moments:
        assert seen is not None
        assert np.linalg.eigvalsh(seen.covariance[0]).min() > -1e-6
        assert (seen.mean >= 0).all(), "it is what a Relu gives"
