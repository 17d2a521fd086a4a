import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from nnunet_fganet.compiled.integers import LARGEST, exponent_of_integers, largest_magnitude, write_integers


@njit(error_model="numpy")
def largest(image, top, bottom, start, stop):
    return largest_magnitude(image, top, bottom, start, stop, np.empty((1, 64), np.int16))


@njit(error_model="numpy")
def write(image, start, stop, exponent, out, to):
    write_integers(image, 1, start, stop, exponent, out, to)


@njit(error_model="numpy")
def exponent(number):
    return exponent_of_integers(number)


def images(seed, width, scale):
    return (scale * np.random.default_rng(seed).standard_normal((3, width))).astype(np.float16)


SCALES = st.sampled_from([2.0**-20, 1e-3, 1.0, 30.0, 1e4])


@given(seed=st.integers(0, 1000), start=st.integers(0, 70), count=st.integers(1, 300), scale=SCALES)
def test_integers_are_rounded_products(seed, start, count, scale):
    image = images(seed, 400, scale)
    power = exponent(np.float32(np.abs(image).max()))
    out = np.full((2, 320), 77, np.int8)
    write(image.view(np.int16), start, start + count, power, out, 5)
    expected = np.rint(image[1, start : start + count].astype(np.float64) * 2.0**power)
    np.testing.assert_array_equal(256 * out[0, 5 : 5 + count].astype(int) + out[1, 5 : 5 + count], expected)
    assert (out[:, :5] == 77).all() and (out[:, 5 + count :] == 77).all()


@given(seed=st.integers(0, 1000), start=st.integers(0, 70), count=st.integers(0, 300), scale=SCALES)
def test_the_largest_magnitude_of_some_columns(seed, start, count, scale):
    image = images(seed, 400, scale)
    expected = np.abs(image[1:3, start : start + count]).max(initial=0)
    assert largest(image.view(np.int16), 1, 3, start, start + count) == expected


@pytest.mark.parametrize("column", [3, 100])
@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_the_largest(column, number):
    image = images(0, 101, 1.0)
    image[2, column] = number
    np.testing.assert_equal(largest(image.view(np.int16), 0, 3, 0, 101), abs(np.float32(number)))
    assert np.isfinite(largest(image.view(np.int16), 0, 2, 0, 101))


@given(number=st.floats(2.0**-24, 65504, width=32))
def test_integers_use_their_range(number):
    power = exponent(np.float32(number))
    assert -2 <= power <= 30
    assert number * 2.0**power <= LARGEST
    assert power == 30 or number * 2.0 ** (power + 1) > LARGEST


def test_zeros_stay():
    assert exponent(np.float32(0)) == 15
    out = np.full((2, 100), 77, np.int8)
    write(np.zeros((2, 100), np.int16), 0, 100, 15, out, 0)
    assert (out == 0).all()
