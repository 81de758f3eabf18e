import numpy as np
import pytest

from edgekit.compress.quantize.packing import PLANES, pack_adjacent, pack_planes


def unpack(codes: np.ndarray, bits: int) -> np.ndarray:
    """What BitShift, Concat and an addition make of the planes."""
    whole = np.zeros(codes.shape, np.uint8)
    for plane in pack_planes(codes, bits):
        parts = [((plane.data << np.uint8(a)) >> np.uint8(b)) << np.uint8(c) for a, b, c in plane.shifts]
        whole += np.concatenate(parts, axis=-1)
    return whole


@pytest.mark.parametrize("bits", PLANES)
def test_planes_unpack_to_codes_in_the_upper_bits(bits: int):
    codes = np.random.default_rng(0).integers(0, 1 << bits, (5, 3, 16)).astype(np.uint8)
    planes = pack_planes(codes, bits)
    assert sum(p.data.nbytes for p in planes) == codes.size * bits // 8
    np.testing.assert_array_equal(unpack(codes, bits), codes << (8 - bits))


def test_neighbours_share_a_byte_lowest_first():
    packed = pack_adjacent(np.array([[1, 2, 3]], np.uint8), 4)
    np.testing.assert_array_equal(packed, [[0x21, 0x03]])
    np.testing.assert_array_equal(pack_adjacent(np.array([1, 2, 3, 0, 1], np.uint8), 2), [0b00111001, 0b01])
    np.testing.assert_array_equal(pack_adjacent(np.array([7, 9], np.uint8), 8), [7, 9])
