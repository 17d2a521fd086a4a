"""Where BGA joins its two branches at full resolution, in one pass over memory.

Two upsamplings, a sigmoid, a product and a sum of its own would each write and read a whole feature map.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.bfloat16 import float_of_bits, narrow, widen
from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Array = NDArray[Any]
_F = np.float32


def gate_and_add(fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> None:
    """Overwrite ``fine`` with ``fine * sigmoid(upsample(gate)) + upsample(coarse)``.

    Upsampling is bilinear to twice the height and width, corners aligned.

    Parameters
    ----------
    fine
        ``(batch, 2 height, 2 width, channels)``, contiguous, float32 or bfloat16.
    gate, coarse
        ``(batch, height, width, channels)``, likewise.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, channels = gate.shape
    check_array("fine", fine, fine.dtype, batch, 2 * height, 2 * width, channels)
    check_array("gate", gate, fine.dtype, *gate.shape)
    check_array("coarse", coarse, fine.dtype, *gate.shape)
    run_parts(
        _loop(fine.dtype),
        batch * 2 * height,
        *(batch, height, width, channels, fine.data_ptr(), gate.data_ptr(), coarse.data_ptr()),
    )


@compiled
def _sigmoid(x: Any) -> Any:
    """Logistic function of a float32, to some 1e-7; without branches, so that loops of it are vectorised."""
    # exp(-x) = 2^n e^r with |r| <= ln(2) / 2, and e^r by its Taylor polynomial (next term: 4e-8).
    y = -x
    y = _F(-87) if y < _F(-87) else y
    y = _F(87) if y > _F(87) else y
    n = math.floor(y * _F(1.44269504) + _F(0.5))
    r = y - n * _F(0.693359375) - n * _F(-2.12194440e-4)  # ln(2) in two parts
    p = _F(1 / 720) * r + _F(1 / 120)
    p = p * r + _F(1 / 24)
    p = p * r + _F(1 / 6)
    p = p * r + _F(0.5)
    p = p * r * r + r + _F(1)
    power = float_of_bits(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23))
    return _F(1) / (_F(1) + p * power)


@compiled
def _between(size: int, position: int) -> tuple[int, int, Any]:
    """Two pixels of ``size`` around a pixel of twice as many, corners aligned, and the second one's weight."""
    exact = position * (size - 1) / (2 * size - 1)
    low = int(exact)
    return low, min(low + 1, size - 1), _F(exact - low)


@compiled
def _mix(a: Array, b: Array, weight: Any, out: Array) -> None:
    for i in range(out.size):
        first = widen(a[i])
        out[i] = first + weight * (widen(b[i]) - first)


@compiled
def _join(fine: Array, gate: Array, next_gate: Array, coarse: Array, next_coarse: Array, weight: Any) -> None:
    for c in range(fine.size):
        opened = _sigmoid(gate[c] + weight * (next_gate[c] - gate[c]))
        value = widen(fine[c]) * opened + (coarse[c] + weight * (next_coarse[c] - coarse[c]))
        fine[c] = narrow(value, fine[c])


@compiled
def _row(fine: Array, gate: Array, coarse: Array, i: int, rows: Array) -> None:
    """Row ``i`` of one image; ``rows``: ``(2, width, channels)``, overwritten."""
    height, width, channels = gate.shape
    low, high, weight = _between(height, i)
    length = width * channels
    _mix(gate[low].reshape(length), gate[high].reshape(length), weight, rows[0].reshape(length))
    _mix(coarse[low].reshape(length), coarse[high].reshape(length), weight, rows[1].reshape(length))
    for j in range(2 * width):
        low, high, weight = _between(width, j)
        _join(fine[i, j], rows[0, low], rows[0, high], rows[1, low], rows[1, high], weight)


@cache
def _loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = {torch.float32: np.float32, torch.bfloat16: np.uint16}[dtype]

    @loop(str(dtype))
    def rows_of_images(data: Any) -> None:
        a = arguments(data, 7)
        batch, height, width, channels = a[0], a[1], a[2], a[3]
        fine = carray(pointer(a[4]), (batch, 2 * height, 2 * width, channels), numbers)
        gate = carray(pointer(a[5]), (batch, height, width, channels), numbers)
        coarse = carray(pointer(a[6]), (batch, height, width, channels), numbers)
        rows = np.empty((2, width, channels), np.float32)
        part = next_part(data)
        while part < parts(data):
            image, i = part // (2 * height), part % (2 * height)
            _row(fine[image], gate[image], coarse[image], i, rows)
            finish_part(data)
            part = next_part(data)

    return rows_of_images
