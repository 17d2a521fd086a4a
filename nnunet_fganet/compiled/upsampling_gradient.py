"""Gradient of bilinear upsampling to twice the height and width, corners aligned (:mod:`.bilateral`), on a CPU."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.bilateral import between
from nnunet_fganet.compiled.decorators import compiled, inlined, loop
from nnunet_fganet.compiled.half import NUMBERS, check_numbers, narrow, widen
from nnunet_fganet.compiled.lanes import LANES, load, store, zeros
from nnunet_fganet.compiled.threads import arguments, finish_part, next_part, parts, pointer, run_parts

_MOST = 4  # pixels of twice as many, at most, that one pixel is a part of
Array = NDArray[Any]
_F = np.float32


def upsampling_gradient(gradient: torch.Tensor, first: int = 0) -> torch.Tensor:
    """Gradient of what was upsampled, from that of an image whose channels from ``first`` on it became.

    Parameters
    ----------
    gradient
        ``(batch, 2 height, 2 width, first + channels)``, contiguous, float32 or bfloat16.

    Returns
    -------
    torch.Tensor
        ``(batch, height, width, channels)``, like ``gradient``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, channels = len(gradient), gradient.shape[1] // 2, gradient.shape[2] // 2, gradient.shape[3]
    check_numbers("gradient", gradient, batch, 2 * height, 2 * width, channels)
    if not 0 <= first < channels:
        raise ValueError(f"of {channels} channels there are none from {first} on")
    out = gradient.new_empty(batch, height, width, channels - first)
    given = batch, height, width, channels, first
    run_parts(_loop(gradient.dtype), batch * height, *given, gradient.data_ptr(), out.data_ptr())
    return out


@compiled
def _fill_weights(size: int, position: int, weights: Array) -> int:
    """Weights with which a pixel of ``size`` is a part of those of twice as many; returns the first one of these."""
    start = min(max(0, 2 * position - 1), max(0, 2 * size - _MOST))
    for k in range(_MOST):
        weights[k] = 0
        if start + k < 2 * size:
            low, high, weight = between(size, start + k)
            if low == position:
                weights[k] += _F(1) - weight
            if high == position:
                weights[k] += weight
    return start


@inlined
def _add(
    given: Array, row: int, x: int, down: int, across: int, weights: Array, channels: int, out: Array, to: int, y: int
) -> None:
    """Write weighted sums of the channels of some pixels into row ``to`` of ``out``, from ``y`` on.

    The first pixel begins at ``x`` in a row of ``given``, each next one ``down`` rows and ``across`` numbers further.
    """
    tail = channels - channels % LANES
    for c in range(0, tail, LANES):
        total = zeros()
        for k in range(_MOST):
            if weights[k] != 0:
                total = total + load(given, row + k * down, x + k * across + c) * weights[k]
        store(out, to, y + c, total)
    for c in range(tail, channels):
        number = _F(0)
        for k in range(_MOST):
            if weights[k] != 0:
                number += widen(given[row + k * down, x + k * across + c]) * weights[k]
        out[to, y + c] = narrow(number, out[to, y + c])


@cache
def _loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def add_rows(data: Any) -> None:
        a = arguments(data, 7)
        batch, height, width, every, first = a[0], a[1], a[2], a[3], a[4]
        channels = every - first
        gradient = carray(pointer(a[5]), (batch * 2 * height, 2 * width * every), numbers)
        out = carray(pointer(a[6]), (batch * height, width * channels), numbers)
        line = np.empty((1, 2 * width * channels), np.float32)
        weights = np.empty(_MOST, np.float32)
        part = next_part(data)
        while part < parts(data):
            row = part // height * 2 * height + _fill_weights(height, part % height, weights)
            for j in range(2 * width):
                _add(gradient, row, j * every + first, 1, 0, weights, channels, line, 0, j * channels)
            for j in range(width):
                start = _fill_weights(width, j, weights)
                _add(line, 0, start * channels, 0, channels, weights, channels, out, part, j * channels)
            finish_part(data)
            part = next_part(data)

    return add_rows
