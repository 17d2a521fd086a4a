"""Operations that take each number of an image once, or four of them, in compiled loops over many numbers at a time."""

from functools import cache
from typing import Any

import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.elementary import sigmoid
from nnunet_fganet.compiled.half import NUMBERS, narrow, widen
from nnunet_fganet.compiled.lanes import LANES, larger, load, store
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

_NUMBERS = 2**14  # of a part of an image that is taken as one row of numbers
Array = NDArray[Any]


def gate_by_sigmoid(values: torch.Tensor, gate: torch.Tensor) -> None:
    """Overwrite ``values`` with ``values * sigmoid(gate)``; contiguous, of one shape, float32, bfloat16 or float16.

    Raises
    ------
    ValueError
        The two are of different kinds or shapes.
    """
    check_array("values", values, values.dtype, *values.shape)
    check_array("gate", gate, values.dtype, *values.shape)
    size = values.numel()
    run_parts(_gate_loop(values.dtype), -(-size // _NUMBERS), size, values.data_ptr(), gate.data_ptr())


def max_pool2(rows: torch.Tensor) -> torch.Tensor:
    """Largest of each 2 x 2 pixels; NaN where one of them is.

    Parameters
    ----------
    rows
        ``(batch, height, width, channels)``, contiguous, float32, bfloat16 or float16; height and width are even.

    Returns
    -------
    torch.Tensor
        ``(batch, height / 2, width / 2, channels)``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, channels = rows.shape
    check_array("rows", rows, rows.dtype, *rows.shape)
    if height % 2 or width % 2:
        raise ValueError(f"{height} x {width} pixels do not divide into squares of 2 x 2")
    out = rows.new_empty(batch, height // 2, width // 2, channels)
    given = (batch * height // 2, width // 2, channels)
    run_parts(_pool_loop(rows.dtype), given[0], *given, rows.data_ptr(), out.data_ptr())
    return out


@cache
def _gate_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over portions of all numbers."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def gate_portions(data: Any) -> None:
        a = arguments(data, 3)
        size = a[0]
        values, gate = carray(pointer(a[1]), (1, size), numbers), carray(pointer(a[2]), (1, size), numbers)
        part = next_part(data)
        while part < parts(data):
            first, last = part * _NUMBERS, min((part + 1) * _NUMBERS, size)
            tail = last - (last - first) % LANES
            for x in range(first, tail, LANES):
                store(values, 0, x, load(values, 0, x) * sigmoid(load(gate, 0, x)))
            for x in range(tail, last):
                values[0, x] = narrow(widen(values[0, x]) * sigmoid(widen(gate[0, x])), values[0, x])
            finish_part(data)
            part = next_part(data)

    return gate_portions


@compiled
def _pool_pixel(rows: Array, row: int, left: int, channels: int, out: Array, to: int, x: int) -> None:
    right = left + channels
    tail = channels - channels % LANES
    for c in range(0, tail, LANES):
        above = larger(load(rows, row, left + c), load(rows, row, right + c))
        below = larger(load(rows, row + 1, left + c), load(rows, row + 1, right + c))
        store(out, to, x + c, larger(above, below))
    for c in range(tail, channels):
        above = larger(widen(rows[row, left + c]), widen(rows[row, right + c]))
        below = larger(widen(rows[row + 1, left + c]), widen(rows[row + 1, right + c]))
        out[to, x + c] = narrow(larger(above, below), out[to, x + c])


@cache
def _pool_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def pool_rows(data: Any) -> None:
        a = arguments(data, 5)
        height, width, channels = a[0], a[1], a[2]
        rows = carray(pointer(a[3]), (2 * height, 2 * width * channels), numbers)
        out = carray(pointer(a[4]), (height, width * channels), numbers)
        part = next_part(data)
        while part < parts(data):
            for j in range(width):
                _pool_pixel(rows, 2 * part, 2 * j * channels, channels, out, part, j * channels)
            finish_part(data)
            part = next_part(data)

    return pool_rows
