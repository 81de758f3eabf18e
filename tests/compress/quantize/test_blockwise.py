import numpy as np
import pytest

from edgekit.compress.quantize.blockwise import (
    Blocks,
    Grid,
    by_chunks,
    fit_least_squares,
    fit_range,
    half_scales,
    signal_to_noise_db,
    split_blocks,
)
from edgekit.compress.quantize.hqq import fit_half_quadratic

RNG = np.random.default_rng(0)
FINE = Grid(4, 32, zero_steps=16)
WHOLE = Grid(4, 32)


def normal(rows: int = 24, columns: int = 128) -> np.ndarray:
    return RNG.standard_normal((rows, columns)).astype(np.float32)


def on_grid(rows: int, columns: int, offset_steps: int) -> np.ndarray:
    """Weights that were 4-bit codes with a float offset before; every block uses its extreme codes."""
    codes = RNG.integers(0, 16, (rows, columns // 32, 32))
    codes[..., 0], codes[..., 1] = 0, 15
    scale = RNG.uniform(0.5, 1.5, (rows, columns // 32, 1))
    offset = RNG.integers(4 * offset_steps, 12 * offset_steps, (rows, columns // 32, 1)) / offset_steps
    return ((codes - offset) * scale).reshape(rows, columns).astype(np.float32)


def test_split_fills_the_last_block_with_zeros():
    blocks = split_blocks(np.ones((2, 40), np.float32), 32)
    assert blocks.shape == (2, 2, 32)
    assert blocks[:, 1, 8:].sum() == 0
    assert blocks.sum() == 80


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_no_value_is_further_from_its_code_than_half_a_step(bits: int):
    rows = normal(columns=70)
    blocks = by_chunks(rows, Grid(bits, 32, zero_steps=1 << (8 - bits)), fit_range)
    step = np.repeat(blocks.scale, 32, axis=1)[:, :70]
    slack = 0.5 if bits < 8 else 1.0  # 8 bits leave no room for a fraction of the zero point
    assert blocks.codes.max() < 1 << bits
    assert (np.abs(blocks.values - rows) <= step * (slack + 0.5 / (1 << (8 - bits))) + 1e-6).all()


def test_a_fraction_of_the_zero_point_restores_weights_with_float_offsets():
    rows = on_grid(16, 96, offset_steps=16)
    assert signal_to_noise_db(rows, by_chunks(rows, FINE, fit_range)) > 100
    assert signal_to_noise_db(rows, by_chunks(rows, WHOLE, fit_range)) < 40
    whole = on_grid(16, 96, offset_steps=1)
    assert signal_to_noise_db(whole, by_chunks(whole, WHOLE, fit_range)) > 100


@pytest.mark.parametrize("grid", [FINE, WHOLE, Grid(4, 32, symmetric=True), Grid(3, 16, 32), Grid(2, 32, 64)])
def test_least_squares_beats_the_range(grid: Grid):
    rows = normal(64, 256)
    plain = signal_to_noise_db(rows, by_chunks(rows, grid, fit_range))
    searched = signal_to_noise_db(rows, by_chunks(rows, grid, fit_least_squares))
    assert searched > plain + 0.3


def test_half_quadratic_lowers_the_mean_error():
    rows = normal(64, 256) ** 3  # heavy tails

    def error(fit) -> float:
        return float(np.abs(by_chunks(rows, FINE, fit).values - rows).mean())

    assert error(fit_half_quadratic) < error(fit_range)


def test_half_quadratic_has_nothing_to_do_where_zero_is_fixed():
    blocks = split_blocks(normal(), 32)
    grid = Grid(4, 32, symmetric=True)
    np.testing.assert_array_equal(fit_half_quadratic(blocks, grid), fit_range(blocks, grid))


def test_importance_moves_the_error_to_columns_that_do_not_count():
    rows = normal(64, 32)
    importance = np.where(np.arange(32) < 8, 100.0, 0.01).astype(np.float32)[None]
    plain = by_chunks(rows, FINE, fit_least_squares).values - rows
    weighted = by_chunks(rows, FINE, lambda b, g: fit_least_squares(b, g, importance)).values - rows
    assert np.square(weighted[:, :8]).mean() < 0.7 * np.square(plain[:, :8]).mean()


@pytest.mark.parametrize("rows", [np.zeros((3, 64)), np.full((3, 64), 2.5), np.full((3, 64), -1e-12)])
def test_constant_rows_come_back(rows: np.ndarray):
    for fit in (fit_range, fit_least_squares, fit_half_quadratic):
        blocks = by_chunks(rows.astype(np.float32), FINE, fit)
        assert (blocks.scale > 0).all()
        np.testing.assert_allclose(blocks.values, rows, rtol=1e-5, atol=1e-11)


def test_symmetric_blocks_keep_the_middle():
    blocks = by_chunks(normal(), Grid(4, 32, symmetric=True), fit_least_squares)
    assert (blocks.zero == 8).all()


def test_half_scales_keep_their_precision_whatever_their_size():
    for size in (1e-12, 1.0, 1e9):
        scale = (RNG.uniform(0.01, 1, 500) * size).astype(np.float32)
        half, factor = half_scales(scale)
        assert half.dtype == np.float16
        np.testing.assert_allclose(half.astype(np.float64) * factor, scale, rtol=6e-4)


def test_noise_of_equal_matrices_is_none():
    blocks = Blocks(np.full((1, 1, 16), 3, np.uint8), np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), 16)
    assert signal_to_noise_db(np.full((1, 16), 2.0), blocks) == float("inf")
    assert signal_to_noise_db(np.full((1, 16), 2.2), blocks) == pytest.approx(20 * np.log10(11), abs=1e-3)
