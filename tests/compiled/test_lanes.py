import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import njit
from numba.core.errors import TypingError

from nnunet_fganet.compiled.first_lanes import load_first, store_first
from nnunet_fganet.compiled.lanes import (
    LANES,
    bounded,
    lane_sum,
    larger,
    leaky_relu,
    load,
    load_integers,
    power_of_two,
    rounded_down,
    store,
    zeros,
)


@njit(error_model="numpy")
def compute(array, slope):
    a, b = load(array, 0, 3), load(array, 1, 3)
    store(array, 2, 3, leaky_relu(np.float32(2) * (a - b) + b, slope))
    store(array, 3, 3, zeros())


def test_arithmetic_is_that_of_numpy():
    array = np.random.default_rng(0).standard_normal((4, LANES + 5)).astype(np.float32)
    array[0, 3:6] = np.inf, -np.inf, np.nan
    found = array.copy()
    compute(found, np.float32(0.25))
    value = 2 * (array[0] - array[1]) + array[1]
    expected = array.copy()
    expected[2, 3:-2] = np.where(value > 0, value, 0.25 * value)[3:-2]
    expected[3, 3:-2] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@njit(error_model="numpy")
def compute_more(a, b, out):
    x, y = load(a, 0, 0), load(b, 0, 0)
    store(out, 0, 0, np.float32(3) / (x + np.float32(0.5)) - x * y)
    store(out, 1, 0, bounded(x, np.float32(-1), np.float32(2)))
    store(out, 2, 0, larger(x, y))
    store(out, 3, 0, power_of_two(bounded(rounded_down(x), np.float32(-126), np.float32(127))))
    return lane_sum(x)


def test_more_arithmetic_is_that_of_numpy():
    a, b = np.random.default_rng(0).standard_normal((2, 1, LANES)).astype(np.float32) * 3
    out = np.zeros((4, LANES), np.float32)
    total = compute_more(a, b, out)
    assert total == pytest.approx(a.sum(), rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(out[0], (3 / (a + 0.5) - a * b)[0], rtol=1e-4)
    np.testing.assert_array_equal(out[1:3], [np.clip(a, -1, 2)[0], np.maximum(a, b)[0]])
    np.testing.assert_array_equal(out[3], 2 ** np.floor(a[0]))


@pytest.mark.parametrize("place", [0, 7, LANES - 1])
def test_nan_is_larger_than_all_and_within_all_bounds(place):
    a, b, out = np.ones((1, LANES), np.float32), np.ones((1, LANES), np.float32), np.zeros((4, LANES), np.float32)
    a[0, place] = np.nan
    assert np.isnan(compute_more(a, b, out))
    assert np.isnan(out[1:3, place]).all() and np.isfinite(np.delete(out, place, axis=1)).all()
    compute_more(b, a, out)
    assert np.isnan(out[2, place])


@njit(error_model="numpy")
def copy_lanes(given, out):
    store(out, 0, 0, load(given, 0, 0))


@pytest.mark.parametrize(("dtype", "bits_dtype"), [(torch.bfloat16, np.uint16), (torch.float16, np.int16)])
def test_numbers_are_rounded_as_torch_rounds_them(dtype, bits_dtype):
    bits = np.random.default_rng(0).integers(0, 2**32, 40_000, np.uint32)
    edges = [0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x80000000, 0]
    bits[: len(edges)] = edges  # halfway both ways and beside it, the largest number, infinities, zeros
    numbers = bits.view(np.float32)
    numbers = numbers[(np.abs(numbers) > 1e-37) | (numbers == 0)]  # processors may take the smallest ones for zero
    numbers = numbers[: len(numbers) // LANES * LANES].reshape(-1, 1, LANES)
    for row in numbers:
        narrow, wide = np.zeros((1, LANES), bits_dtype), np.zeros((1, LANES), np.float32)
        copy_lanes(row, narrow)
        copy_lanes(narrow, wide)
        right = torch.from_numpy(row[0])
        if dtype == torch.float16:  # the largest number takes the place of infinity
            right = right.clamp(-65504, 65504)
        np.testing.assert_array_equal(wide[0], right.to(dtype).float().numpy())


@njit(error_model="numpy")
def copy_first(integers, out, count):
    store_first(out, 1, 2, load_integers(integers, 1, 2), count)


@pytest.mark.parametrize(
    ("dtype", "bits", "step"),
    [(torch.float32, np.float32, 70_000_001), (torch.float16, np.int16, 1), (torch.bfloat16, np.uint16, 1)],
)
@pytest.mark.parametrize("count", [1, 7, LANES])
def test_only_the_first_numbers_are_written(dtype, bits, step, count):
    integers = (np.arange(-30, 30, dtype=np.int32) * step).reshape(2, 30)
    out = np.full((2, 20), 77, bits)
    copy_first(integers, out, count)
    written = torch.from_numpy(out[1, 2 : 2 + count].copy()).view(dtype)
    assert torch.equal(written, torch.from_numpy(integers[1, 2 : 2 + count]).to(dtype))
    out[1, 2 : 2 + count] = 77
    assert (out == 77).all()


@njit(error_model="numpy")
def read_first(rows, out, count):
    store(out, 0, 0, load_first(rows, 1, 17, count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_only_the_first_numbers_are_read_and_the_others_are_zeros(dtype, count):
    """Sixteen numbers from there on would lead out of the array."""
    given = torch.arange(40, dtype=torch.float32).view(2, 20).to(dtype)
    bits = given if dtype == torch.float32 else given.view(torch.int16)
    rows = bits.numpy().view(np.uint16) if dtype == torch.bfloat16 else bits.numpy()
    out = np.full((1, LANES), 77, np.float32)
    read_first(rows, out, count)
    assert out[0].tolist() == [37.0, 38.0, 39.0][:count] + [0.0] * (LANES - count)


def test_numba_checks_both_ends_where_it_is_told_to():
    program = """
import numpy as np
from numba import njit
from nnunet_fganet.compiled.first_lanes import load_first, store_first
from nnunet_fganet.compiled.lanes import load, store

@njit(error_model="numpy")
def copy(array, column):
    store(array, 0, column, load(array, 1, 0))

@njit(error_model="numpy")
def copy_first(array, source, column):
    store_first(array, 0, column, load_first(array, 1, source, 3), 3)

array = np.zeros((2, 20), np.float32)
copy(array, 4)
for column in (5, -1):
    try:
        copy(array, column)
    except IndexError:
        print(column, "refused")
copy_first(array, 17, 17)
for source, column in ((18, 0), (0, 18), (-1, 0), (0, -1)):
    try:
        copy_first(array, source, column)
    except IndexError:
        print(source, column, "refused")
"""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    first = "18 0 refused\n0 18 refused\n-1 0 refused\n0 -1 refused\n"
    assert done.stdout == "5 refused\n-1 refused\n" + first, done.stderr


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 24)), np.zeros((24, 4), np.float32).T, np.zeros((4, 48), np.float32)[:, ::2]],
    ids=["float64", "fortran", "strided"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(TypingError):
        compute(array, np.float32(0))
