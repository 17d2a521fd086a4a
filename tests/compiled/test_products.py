import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

from nnunet_fganet.compiled.lanes import LANES
from nnunet_fganet.compiled.products import HEIGHT, add_products, count_blocks, joined, multiply, panels


@njit(error_model="numpy")
def compute(a, first, count, b, b_row, out):
    multiply(a, first, count, b, b_row, out)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), first=st.integers(0, 5), count=st.integers(HEIGHT, 40), length=st.integers(1, 40))
def test_rows_times_a_panel_and_nothing_else_is_written(seed, first, count, length):
    random = np.random.default_rng(seed)
    a = random.standard_normal((first + count + 3, length), np.float32)
    b = random.standard_normal((length + 7, LANES), np.float32)
    out = np.full((len(a), LANES), 5, np.float32)
    compute(a, first, count, b, 4, out)
    expected = np.full_like(out, 5)
    expected[first : first + count] = a[first : first + count].astype(np.float64) @ b[4 : 4 + length]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("columns", [LANES, LANES + 1, 3 * LANES - 1, 3 * LANES])
def test_panels_hold_every_column_in_order(columns):
    matrix = torch.arange(2 * 3 * columns).view(2, 3, columns)
    cut = panels(matrix)
    assert cut.shape == (-(-columns // LANES), 2, 3, LANES) and cut.is_contiguous()
    whole = columns // LANES * LANES
    assert torch.equal(cut[: columns // LANES].movedim(0, -2).flatten(-2), matrix[..., :whole])
    assert torch.equal(cut[-1], matrix[..., -LANES:])


@njit(error_model="numpy")
def add(a, row, count, b, b_row, out, at):
    add_products(a, row, count, b, b_row, out, at)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), row=st.integers(0, 5), count=st.integers(1, 40), columns=st.integers(HEIGHT, 40))
def test_columns_times_a_panel_are_added_and_nothing_else_is_written(seed, row, count, columns):
    random = np.random.default_rng(seed)
    a = random.standard_normal((row + count + 3, columns), np.float32)
    b = random.standard_normal((count + 7, LANES), np.float32)
    blocks = count_blocks(columns)
    out = np.full((blocks * HEIGHT + 5, LANES), 5, np.float32)
    add(a, row, count, b, 4, out, 2)
    added = torch.from_numpy(out[2 : 2 + blocks * HEIGHT].reshape(blocks, HEIGHT, LANES))
    expected = 5 + a[row : row + count].T.astype(np.float64) @ b[4 : 4 + count]
    np.testing.assert_allclose(joined(added, 0, columns), expected, rtol=1e-4, atol=1e-4)
    assert (out[:2] == 5).all() and (out[2 + blocks * HEIGHT :] == 5).all()


@pytest.mark.parametrize("length", [LANES, LANES + 1, 3 * LANES - 1, 3 * LANES])
def test_what_was_cut_is_joined(length):
    matrix = torch.arange(2 * 3 * length).view(2, 3, length)
    assert torch.equal(joined(panels(matrix).permute(1, 2, 0, 3), 2, length), matrix)


def test_numba_checks_all_arrays_where_it_is_told_to():
    program = """
import numpy as np
from numba import njit
from nnunet_fganet.compiled.products import HEIGHT, add_products, multiply

@njit(error_model="numpy")
def compute(a, b, b_row, out):
    multiply(a, 0, HEIGHT, b, b_row, out)

@njit(error_model="numpy")
def add(a, b, b_row, out):
    add_products(a, 1, 6, b, b_row, out, 2)

def given(rows, b_rows, columns, out_rows):
    a, b, out = (np.ones(shape, np.float32) for shape in ((rows, 5), (b_rows, columns), (out_rows, 16)))
    return a, b, 2, out

N = HEIGHT
compute(*given(N, 7, 16, N))
for sizes in ((N - 1, 7, 16, N), (N, 6, 16, N), (N, 7, 15, N), (N, 7, 16, N - 1)):
    try:
        compute(*given(*sizes))
    except IndexError:
        print("refused")

def given_to_add(rows, b_rows, columns, out_rows):
    a, b, out = (np.ones(shape, np.float32) for shape in ((rows, N), (b_rows, columns), (out_rows, 16)))
    return a, b, 2, out

add(*given_to_add(7, 8, 16, N + 2))
for sizes in ((6, 8, 16, N + 2), (7, 7, 16, N + 2), (7, 8, 15, N + 2), (7, 8, 16, N + 1)):
    try:
        add(*given_to_add(*sizes))
    except IndexError:
        print("refused")
"""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == 8 * "refused\n", done.stderr


def test_other_arrays_are_refused():
    a, b, out = (np.zeros((40, LANES), np.float32) for _ in range(3))
    for arrays in ((a.astype(float), b, out), (a, b[:, ::2], out), (a, b, out.T)):
        with pytest.raises(TypingError):
            compute(arrays[0], 0, HEIGHT, arrays[1], 0, arrays[2])
        with pytest.raises(TypingError):
            add(arrays[0], 0, 5, arrays[1], 0, arrays[2], 0)
