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
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Array = NDArray[Any]
_QUADS = STEP // 4  # four numbers of a column lie side by side, as the units want them
_MAGNITUDE = 0x7FFFFFFF  # the bits of a float32 number without its sign, which are in the order of the magnitudes
_F = np.float32
_TINY = np.finfo(np.float32).tiny  # smaller scales have no reciprocal


def fixed_point_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(out_channels, in_channels, k, k)`` as :func:`.fixed_point.fixed_point_conv2d` takes it.

    Returns
    -------
    tiles
        int8 ``(panels, k, steps, 2, 16, 16, 4)``: panel by panel of :data:`PANEL` output channels, of a kernel's row
        ``steps`` of :data:`STEP` numbers, first the high and then the low bytes, four numbers of an output channel side
        by side. An integer is ``256 * high + low``; what is missing in the last panel and step is zero.
    scale
        ``(out_channels,)``, float32: what an integer of an output channel stands for.
    """
    out_channels, channels, kernel = weight.shape[:3]
    lines = weight.detach().float().permute(0, 2, 3, 1).reshape(out_channels, -1).contiguous()
    check_array("weight", lines, torch.float32, out_channels, kernel * kernel * channels)
    panels, steps = -(-out_channels // PANEL), -(-kernel * channels // STEP)
    tiles = lines.new_empty(panels, kernel, steps, 2, _QUADS, PANEL, 4, dtype=torch.int8)
    scale = lines.new_empty(out_channels)
    sizes = out_channels, kernel, kernel * channels
    run_parts(_loop(), panels, *sizes, lines.data_ptr(), scale.data_ptr(), tiles.data_ptr())
    return tiles, scale


@compiled
def _largest_bits(bits: Array, channel: int) -> Any:
    largest = np.int32(0)
    for x in range(bits.shape[1]):
        largest = max(largest, bits[channel, x] & np.int32(_MAGNITUDE))
    return largest


@compiled
def _write_step(numbers: Array, channel: int, start: int, count: int, factor: Any, step: Array) -> None:
    """Integers of some numbers of a channel, times a factor: high bytes, then low ones, filled up with zeros."""
    write_integers(numbers, channel, start, start + count, factor, _F(1), step, 0)
    step[:, count:] = 0


@cache
def _loop() -> Any:
    """Compile the loop over panels."""

    @loop("float32")
    def write_panels(data: Any) -> None:
        a = arguments(data, 6)
        out_channels, kernel, length = a[0], a[1], a[2]
        panels, steps = -(-out_channels // PANEL), -(-length // STEP)
        numbers = carray(pointer(a[3]), (out_channels, kernel * length), np.float32)
        bits = carray(pointer(a[3]), (out_channels, kernel * length), np.int32)
        scale = carray(pointer(a[4]), out_channels, np.float32)
        scale_bits = carray(pointer(a[4]), out_channels, np.int32)
        tiles = carray(pointer(a[5]), (panels, kernel, steps, 2, _QUADS, PANEL), np.int32)
        bytes_ = np.zeros((2, STEP), np.int8)
        quads = bytes_.view(np.int32)
        panel = next_part(data)
        while panel < parts(data):
            for column in range(PANEL):
                channel = panel * PANEL + column
                if channel >= out_channels:
                    tiles[panel, :, :, :, :, column] = 0
                    continue
                scale_bits[channel] = _largest_bits(bits, channel)
                scale[channel] /= _F(LARGEST)
                if scale[channel] < _TINY:
                    scale[channel] = _TINY
                factor = _F(1) / scale[channel]
                for row in range(kernel):
                    for step in range(steps):
                        start = step * STEP
                        count = min(STEP, length - start)
                        _write_step(numbers, channel, row * length + start, count, factor, bytes_)
                        for quad in range(_QUADS):
                            tiles[panel, row, step, 0, quad, column] = quads[0, quad]
                            tiles[panel, row, step, 1, quad, column] = quads[1, quad]
            finish_part(data)
            panel = next_part(data)

    return write_panels
