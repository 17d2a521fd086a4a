"""Where the decoder joins two resolutions, in one pass over memory each.

Upsamplings, sigmoid, product, sum and concatenation of their own would each write and read a whole feature map.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.elementary import sigmoid
from nnunet_fganet.compiled.half import NUMBERS, narrow, widen
from nnunet_fganet.compiled.lanes import LANES, load, store
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Array = NDArray[Any]
_F = np.float32


def gate_and_add(fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> None:
    """Overwrite ``fine`` with ``fine * sigmoid(upsample(gate)) + upsample(coarse)``.

    Upsampling is bilinear to twice the height and width, corners aligned.

    Parameters
    ----------
    fine
        ``(batch, 2 height, 2 width, channels)``, contiguous, float32, bfloat16 or float16.
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
        _gate_loop(fine.dtype),
        batch * 2 * height,
        *(batch, height, width, channels, fine.data_ptr(), gate.data_ptr(), coarse.data_ptr()),
    )


def join(fused: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
    """Concatenate the channels of ``fused`` and of ``deep`` upsampled as :func:`gate_and_add` does.

    Parameters
    ----------
    fused
        ``(batch, 2 height, 2 width, channels)``, contiguous, float32, bfloat16 or float16.
    deep
        ``(batch, height, width, deep_channels)``, likewise.

    Returns
    -------
    torch.Tensor
        ``(batch, 2 height, 2 width, channels + deep_channels)``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, deep_channels = deep.shape
    channels = fused.shape[-1]
    check_array("fused", fused, deep.dtype, batch, 2 * height, 2 * width, channels)
    check_array("deep", deep, deep.dtype, *deep.shape)
    out = fused.new_empty(batch, 2 * height, 2 * width, channels + deep_channels)
    run_parts(
        _join_loop(fused.dtype),
        batch * 2 * height,
        *(batch, height, width, channels, deep_channels, fused.data_ptr(), deep.data_ptr(), out.data_ptr()),
    )
    return out


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
def _mixed(rows: Array, row: int, low: int, high: int, weight: Any) -> Any:
    first = load(rows, row, low)
    return first + weight * (load(rows, row, high) - first)


@compiled
def _join_pixel(fine: Array, i: int, x: int, rows: Array, low: int, high: int, weight: Any, channels: int) -> None:
    """Join the channels of row ``i`` from ``x`` on; those of its neighbours begin at ``low`` and ``high``."""
    vectors = channels // LANES * LANES
    for c in range(0, vectors, LANES):
        opened = sigmoid(_mixed(rows, 0, low + c, high + c, weight))
        store(fine, i, x + c, load(fine, i, x + c) * opened + _mixed(rows, 1, low + c, high + c, weight))
    for c in range(vectors, channels):
        gate, coarse = rows[0, low + c], rows[1, low + c]
        opened = sigmoid(gate + weight * (rows[0, high + c] - gate))
        value = widen(fine[i, x + c]) * opened + (coarse + weight * (rows[1, high + c] - coarse))
        fine[i, x + c] = narrow(value, fine[i, x + c])


@compiled
def _upsample_pixel(rows: Array, low: int, high: int, weight: Any, out: Array, i: int, x: int, channels: int) -> None:
    vectors = channels // LANES * LANES
    for c in range(0, vectors, LANES):
        store(out, i, x + c, _mixed(rows, 0, low + c, high + c, weight))
    for c in range(vectors, channels):
        first = rows[0, low + c]
        out[i, x + c] = narrow(first + weight * (rows[0, high + c] - first), out[i, x + c])


@cache
def _gate_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def gate_rows(data: Any) -> None:
        a = arguments(data, 7)
        batch, height, width, channels = a[0], a[1], a[2], a[3]
        fine = carray(pointer(a[4]), (batch * 2 * height, 2 * width * channels), numbers)
        gate = carray(pointer(a[5]), (batch * height, width * channels), numbers)
        coarse = carray(pointer(a[6]), (batch * height, width * channels), numbers)
        rows = np.empty((2, width * channels), np.float32)
        part = next_part(data)
        while part < parts(data):
            first = part // (2 * height) * height  # row of the image
            low, high, weight = _between(height, part % (2 * height))
            _mix(gate[first + low], gate[first + high], weight, rows[0])
            _mix(coarse[first + low], coarse[first + high], weight, rows[1])
            for j in range(2 * width):
                low, high, weight = _between(width, j)
                _join_pixel(fine, part, j * channels, rows, low * channels, high * channels, weight, channels)
            finish_part(data)
            part = next_part(data)

    return gate_rows


@cache
def _join_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def join_rows(data: Any) -> None:
        a = arguments(data, 8)
        batch, height, width, channels, deep_channels = a[0], a[1], a[2], a[3], a[4]
        every = channels + deep_channels
        fused = carray(pointer(a[5]), (batch * 2 * height, 2 * width, channels), numbers)
        deep = carray(pointer(a[6]), (batch * height, width * deep_channels), numbers)
        out = carray(pointer(a[7]), (batch * 2 * height, 2 * width * every), numbers)
        rows = np.empty((1, width * deep_channels), np.float32)
        part = next_part(data)
        while part < parts(data):
            first = part // (2 * height) * height
            low, high, weight = _between(height, part % (2 * height))
            _mix(deep[first + low], deep[first + high], weight, rows[0])
            for j in range(2 * width):
                x = j * every
                out[part, x : x + channels] = fused[part, j]
                low, high, weight = _between(width, j)
                _upsample_pixel(
                    rows, low * deep_channels, high * deep_channels, weight, out, part, x + channels, deep_channels
                )
            finish_part(data)
            part = next_part(data)

    return join_rows
