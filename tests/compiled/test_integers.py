import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from nnunet_fganet.compiled.integers import FACTORS, LARGEST, factors_of_float16, largest_magnitude, write_integers

BITS = {np.float16: np.int16, np.float32: np.float32}  # what arrays hold
OF_INTEGERS = {np.float16: FACTORS[torch.float16], np.float32: FACTORS[torch.float32]}


@njit(error_model="numpy")
def largest(image, top, bottom, start, stop):
    return largest_magnitude(image, top, bottom, start, stop, np.empty((1, 64), image.dtype))


@njit(error_model="numpy")
def write(image, start, stop, factors, out, to):
    write_integers(image, 1, start, stop, np.float32(factors[0]), np.float32(factors[1]), out, to)


def images(seed, width, scale, kind):
    return (scale * np.random.default_rng(seed).standard_normal((3, width))).astype(kind)


SCALES = st.sampled_from([2.0**-20, 1e-3, 1.0, 30.0, 1e4])
KINDS = st.sampled_from([np.float16, np.float32])


@given(seed=st.integers(0, 1000), start=st.integers(0, 70), count=st.integers(1, 300), scale=SCALES, kind=KINDS)
def test_integers_are_rounded_products(seed, start, count, scale, kind):
    image = images(seed, 400, scale, kind)
    factors = OF_INTEGERS[kind](np.float32(np.abs(image).max()))
    out = np.full((2, 320), 77, np.int8)
    write(image.view(BITS[kind]), start, start + count, factors, out, 5)
    product = np.float32(factors[0]) * image[1, start : start + count].astype(np.float32) * np.float32(factors[1])
    expected = np.rint(product)
    np.testing.assert_array_equal(256 * out[0, 5 : 5 + count].astype(int) + out[1, 5 : 5 + count], expected)
    assert (out[:, :5] == 77).all() and (out[:, 5 + count :] == 77).all()


@given(seed=st.integers(0, 1000), start=st.integers(0, 70), count=st.integers(0, 300), scale=SCALES, kind=KINDS)
def test_the_largest_magnitude_of_some_columns(seed, start, count, scale, kind):
    image = images(seed, 400, scale, kind)
    expected = np.abs(image[1:3, start : start + count]).max(initial=0)
    assert largest(image.view(BITS[kind]), 1, 3, start, start + count) == expected


@pytest.mark.parametrize("kind", BITS)
@pytest.mark.parametrize("column", [3, 100])
@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_the_largest(column, number, kind):
    image = images(0, 101, 1.0, kind)
    image[2, column] = number
    np.testing.assert_equal(largest(image.view(BITS[kind]), 0, 3, 0, 101), abs(np.float32(number)))
    assert np.isfinite(largest(image.view(BITS[kind]), 0, 2, 0, 101))


@given(number=st.floats(2.0**-24, 65504, width=32))
def test_integers_of_float16_use_their_range(number):
    first, second, unit = factors_of_float16(np.float32(number))
    assert np.float16(first) == first and np.float16(second) == second and first * second * unit == 1
    assert 0.25 <= first * second <= 2**30
    assert number * first * second <= LARGEST
    assert first * second == 2**30 or number * 2 * first * second > LARGEST


@given(number=st.floats(2.0**-100, 2.0**126, width=32))
def test_integers_of_float32_use_their_range(number):
    first, second, unit = OF_INTEGERS[np.float32](np.float32(number))
    assert second == 1
    assert np.rint(np.float32(number) * np.float32(first)) == LARGEST
    assert LARGEST * unit == pytest.approx(number)


@pytest.mark.parametrize("kind", BITS)
def test_zeros_stay(kind):
    factors = OF_INTEGERS[kind](np.float32(0))
    assert np.isfinite(factors).all()
    out = np.full((2, 100), 77, np.int8)
    write(np.zeros((2, 100), BITS[kind]), 0, 100, factors, out, 0)
    assert (out == 0).all()
