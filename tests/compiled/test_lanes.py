import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from nnunet_fganet.compiled.lanes import LANES, leaky_relu, load, store, zeros


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


def test_numba_checks_both_ends_where_it_is_told_to():
    program = """
import numpy as np
from numba import njit
from nnunet_fganet.compiled.lanes import load, store

@njit(error_model="numpy")
def copy(array, column):
    store(array, 0, column, load(array, 1, 0))

array = np.zeros((2, 20), np.float32)
copy(array, 4)
for column in (5, -1):
    try:
        copy(array, column)
    except IndexError:
        print(column, "refused")
"""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "5 refused\n-1 refused\n", done.stderr


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 24)), np.zeros((24, 4), np.float32).T, np.zeros((4, 48), np.float32)[:, ::2]],
    ids=["float64", "fortran", "strided"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(TypingError):
        compute(array, np.float32(0))
