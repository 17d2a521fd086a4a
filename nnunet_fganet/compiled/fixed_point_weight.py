"""Weights of a convolution as 16-bit integers in the tiles of :mod:`.matrix_units`, in compiled loops.

A training lays them out anew in each step.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.integers import LARGEST, write_integers
from nnunet_fganet.compiled.matrix_units import PANEL, STEP
from nnunet_fganet.compiled.rounding import round_row, rounded_address
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Array = NDArray[Any]
_QUADS = STEP // 4  # four numbers of a column lie side by side, as the units want them
_MAGNITUDE = 0x7FFFFFFF  # the bits of a float32 number without its sign, which are in the order of the magnitudes
_F = np.float32
_TINY = np.finfo(np.float32).tiny  # smaller scales have no reciprocal


def fixed_point_weight(weight: torch.Tensor, rounded: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """``(out_channels, in_channels, k, k)`` as :func:`.fixed_point.fixed_point_conv2d` takes it.

    Parameters
    ----------
    weight
        Float32; contiguous or channels last.
    rounded
        ``(out_channels, k * k * in_channels)``, bfloat16: a copy, channels last, written beside.

    Returns
    -------
    tiles
        int8 ``(panels, k, steps, 2, 16, 16, 4)``: panel by panel of :data:`PANEL` output channels, of a kernel's row
        ``steps`` of :data:`STEP` numbers, first the high and then the low bytes, four numbers of an output channel side
        by side. An integer is ``256 * high + low``; what is missing in the last panel and step is zero.
    scale
        ``(out_channels,)``, float32: what an integer of an output channel stands for.

    Raises
    ------
    ValueError
        ``rounded`` is of another kind or shape.
    """
    out_channels, channels, kernel = weight.shape[:3]
    lines = weight.detach().float().permute(0, 2, 3, 1).reshape(out_channels, -1).contiguous()
    check_array("weight", lines, torch.float32, out_channels, kernel * kernel * channels)
    panels, steps = -(-out_channels // PANEL), -(-kernel * channels // STEP)
    tiles = lines.new_empty(panels, kernel, steps, 2, _QUADS, PANEL, 4, dtype=torch.int8)
    scale = lines.new_empty(out_channels)
    sizes = out_channels, kernel, kernel * channels
    addresses = lines.data_ptr(), scale.data_ptr(), tiles.data_ptr(), rounded_address(rounded, *lines.shape)
    run_parts(_loop(), panels, *sizes, *addresses)
    return tiles, scale


@compiled
def _largest_bits(bits: Array, channel: int) -> Any:
    largest = np.int32(0)
    for x in range(bits.shape[1]):
        largest = max(largest, bits[channel, x] & np.int32(_MAGNITUDE))
    return largest


@compiled
def _fill_scales(bits: Array, first: int, scale_bits: Array, scale: Array) -> None:
    """Of the channels of a panel, of which the first is ``first``."""
    for channel in range(first, min(first + PANEL, len(bits))):
        scale_bits[channel] = _largest_bits(bits, channel)
        scale[channel] = max(scale[channel] / _F(LARGEST), _TINY)


@compiled
def _write_step(numbers: Array, first: int, start: int, count: int, scale: Array, lines: Array, rounded: Array) -> None:
    """Integers of some numbers of each channel of a panel, line by line of :data:`STEP`, filled up with zeros.

    ``lines`` ``(2, PANEL * STEP)``: high and low bytes; ``rounded`` like ``numbers``, or nothing.
    """
    for channel in range(first, min(first + PANEL, len(numbers))):
        to = (channel - first) * STEP
        write_integers(numbers, channel, start, start + count, _F(1) / scale[channel], _F(1), lines, to)
        lines[:, to + count : to + STEP] = 0
        if len(rounded):
            round_row(numbers, channel, start, start + count, rounded)


@compiled
def _transpose(lines: Array, tiles: Array) -> None:
    """Lines ``(2, PANEL * 16)`` of four bytes each, as columns of ``tiles`` ``(2, 16, PANEL)``."""
    for half in range(2):
        for quad in range(_QUADS):
            for column in range(PANEL):
                tiles[half, quad, column] = lines[half, column * _QUADS + quad]


@cache
def _loop() -> Any:
    """Compile the loop over panels."""

    @loop("float32")
    def write_panels(data: Any) -> None:
        a = arguments(data, 7)
        out_channels, kernel, length = a[0], a[1], a[2]
        panels, steps = -(-out_channels // PANEL), -(-length // STEP)
        numbers = carray(pointer(a[3]), (out_channels, kernel * length), np.float32)
        bits = carray(pointer(a[3]), (out_channels, kernel * length), np.int32)
        scale = carray(pointer(a[4]), out_channels, np.float32)
        scale_bits = carray(pointer(a[4]), out_channels, np.int32)
        tiles = carray(pointer(a[5]), (panels, kernel, steps, 2, _QUADS, PANEL), np.int32)
        rounded = carray(pointer(a[6]), (out_channels if a[6] else 0, kernel * length), np.uint16)
        lines = np.zeros((2, PANEL * STEP), np.int8)
        panel = next_part(data)
        while panel < parts(data):
            first = panel * PANEL
            _fill_scales(bits, first, scale_bits, scale)
            lines[:, max(0, out_channels - first) * STEP :] = 0
            for row in range(kernel):
                for step in range(steps):
                    start = step * STEP
                    _write_step(numbers, first, row * length + start, min(STEP, length - start), scale, lines, rounded)
                    _transpose(lines.view(np.int32), tiles[panel, row, step])
            finish_part(data)
            panel = next_part(data)

    return write_panels
