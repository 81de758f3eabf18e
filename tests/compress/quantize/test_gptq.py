import numpy as np

from edgekit.compress.quantize.blockwise import Grid, by_chunks, fit_least_squares
from edgekit.compress.quantize.gptq import inverse_root, round_blocks_on_data

RNG = np.random.default_rng(0)
GRID = Grid(3, 16, zero_steps=32)


def correlated(samples: int, columns: int) -> np.ndarray:
    hidden = RNG.standard_normal((samples, columns // 4)) @ RNG.standard_normal((columns // 4, columns))
    return (hidden + 0.1 * RNG.standard_normal((samples, columns))).astype(np.float32)


def test_rounding_on_data_halves_the_error_of_outputs():
    x, rows = correlated(512, 96), RNG.standard_normal((40, 96)).astype(np.float32)
    plain = by_chunks(rows, GRID, fit_least_squares).values
    rounded = round_blocks_on_data(rows, GRID, x.T @ x / len(x)).values

    def error(v: np.ndarray) -> float:
        return float(np.square(x @ (v - rows).T).mean())

    assert error(rounded) < 0.5 * error(plain)


def test_one_column_after_the_other_as_in_the_paper():
    x, rows = correlated(256, 48), RNG.standard_normal((6, 48)).astype(np.float32)
    moments = x.T @ x / len(x)
    got = round_blocks_on_data(rows, GRID, moments)
    order = np.argsort(-np.diag(moments), kind="stable")
    upper = inverse_root(moments[np.ix_(order, order)])
    assert upper is not None
    left, codes = rows.astype(np.float64).copy(), np.zeros(rows.shape)
    for place, j in enumerate(order):
        scale, zero = got.scale[:, j // 16], got.zero[:, j // 16]
        codes[:, j] = np.clip(np.rint(left[:, j] / scale + zero), 0, GRID.top)
        error = (left[:, j] - (codes[:, j] - zero) * scale) / upper[place, place]
        left[:, order[place + 1 :]] -= np.outer(error, upper[place, place + 1 :])
    assert (got.codes.reshape(6, -1)[:, :48] == codes).mean() > 0.99  # float32 against float64


def test_weights_on_the_grid_stay_there():
    codes = RNG.integers(0, 8, (10, 2, 16))
    codes[..., 0], codes[..., 1] = 0, 7
    rows = ((codes - 3.5) * 0.25).reshape(10, 32).astype(np.float32)
    x = correlated(256, 32)
    np.testing.assert_allclose(round_blocks_on_data(rows, GRID, x.T @ x).values, rows, atol=1e-6)


def test_data_that_says_nothing_leaves_least_squares():
    rows = RNG.standard_normal((8, 32)).astype(np.float32)
    plain = by_chunks(rows, GRID, fit_least_squares)
    for moments in (np.zeros((32, 32)), np.full((32, 32), np.nan)):
        assert inverse_root(moments) is None
        np.testing.assert_array_equal(round_blocks_on_data(rows, GRID, moments).codes, plain.codes)


def test_columns_that_fill_no_whole_block():
    x, rows = correlated(256, 40), RNG.standard_normal((8, 40)).astype(np.float32)
    blocks = round_blocks_on_data(rows, GRID, x.T @ x / len(x))
    assert blocks.codes.shape == (8, 3, 16)
    assert blocks.values.shape == rows.shape
    assert np.square(blocks.values - rows).mean() < 0.1 * np.square(rows).mean()
