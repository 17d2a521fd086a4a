"""Samples of a deformable convolution and their products, by matrix units (:mod:`.matrix_units`).

What a thread samples for some pixels are tiles, which its core's cache holds until they are multiplied: numbers in
bfloat16, or 8-bit levels (:mod:`.levels`).
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch.nn import functional

from nnunet_fganet.compiled.decorators import inlined, loop
from nnunet_fganet.compiled.first_lanes import store_first
from nnunet_fganet.compiled.half import NUMBERS
from nnunet_fganet.compiled.lanes import LANES, load, load_integers
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    ROW_BYTES,
    ROWS_OF_TILE,
    WIDE_PANEL,
    WIDE_STEP_BYTES,
    add_bfloat16_products,
    add_level_products,
    begin_tiles,
    clear_sums,
    end_tiles,
    has_matrix_units,
    tile_shapes,
    write_sums,
)
from nnunet_fganet.compiled.sampling import check_samples, sample, sample_levels_of_halves
from nnunet_fganet.compiled.threads import (
    arguments,
    check_array,
    finish_part,
    float_arguments,
    next_part,
    parts,
    pointer,
    run_parts,
)

Array = NDArray[Any]
_F = np.float32
PART_BYTES = 1_200_000  # of samples, at most: beside a panel of the weights in a core's cache
_MOST_BLOCKS = 8  # of 32 pixels of a part
_PARTS_A_THREAD = 2  # at least, where there are pixels for them
_SMALLEST_STEP_OF_HALVES = 2.0**-10  # between two levels: see mixtures.write_levels


def multiplies_samples(channels: int, size_of_number: int = 2) -> bool:
    """Whether this processor does that for images of so many channels; a number is a level (1) or in bfloat16 (2)."""
    return has_matrix_units() and channels % (ROW_BYTES // size_of_number) == 0


def multiply_samples(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    pixels: tuple[int, int],
    step: float,
    zero: int,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """Write ``samples @ weight * scale + bias`` of some pixels into their rows of ``out``.

    Parameters
    ----------
    rows, offset, mask, size
        See :func:`.sampling.sample_columns`. Levels of float16 are computed in float16, unless the steps are too
        small for it, see :func:`.mixtures.write_levels`.
    pixels
        The first one, and the one behind the last.
    step, zero
        See :func:`.sampling.sample_levels`; 1 and 0 for samples in bfloat16.
    weight
        Of :func:`.matrix_units.tiles_of`: int8 for samples in levels, of images whose channels are a multiple of 64;
        or bfloat16, of channels that are one of 32.
    scale, bias
        ``(out_channels,)``, float32.
    out
        ``(batch * height * width, out_channels)``, contiguous, like ``rows``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or there are no matrix units.
    """
    if not has_matrix_units():
        raise ValueError("this processor has no matrix units that this process may use")
    total, channels = rows.shape
    taps, out_channels = offset.shape[1], len(bias)
    size_of_number = weight.element_size()
    in_row = ROW_BYTES // size_of_number
    panels, steps = -(-out_channels // WIDE_PANEL), taps * channels // in_row
    check_samples(rows, offset, mask, size, taps, tuple(NUMBERS))
    if weight.dtype not in (torch.int8, torch.bfloat16):
        raise ValueError(f"weight must be int8 or bfloat16, not {weight.dtype}")
    if channels % in_row:
        raise ValueError(f"{channels} channels are no multiple of {in_row}")
    if not 0 <= pixels[0] <= pixels[1] <= total:
        raise ValueError(f"pixels {pixels[0]} to {pixels[1]} are outside of {total} rows")
    check_array("weight", weight, weight.dtype, panels, steps, 2, 16, 16, 4 // size_of_number)
    check_array("scale", scale, torch.float32, out_channels)
    check_array("bias", bias, torch.float32, out_channels)
    check_array("out", out, rows.dtype, total, out_channels)
    scale, bias = (functional.pad(each, (0, -out_channels % WIDE_PANEL)) for each in (scale, bias))
    wanted = -(-(pixels[1] - pixels[0]) // (BLOCK * _PARTS_A_THREAD * torch.get_num_threads()))
    blocks = max(1, min(wanted, _MOST_BLOCKS, PART_BYTES // (BLOCK * steps * ROW_BYTES)))
    in_levels = weight.dtype == torch.int8
    by_halves = in_levels and rows.dtype == torch.float16 and step >= _SMALLEST_STEP_OF_HALVES
    run_parts(
        _loop(rows.dtype, in_levels, by_halves),
        -(-(pixels[1] - pixels[0]) // (blocks * BLOCK)),
        *(*size, taps, channels, total, out_channels, *pixels, blocks, rows.data_ptr(), offset.data_ptr()),
        *(0 if mask is None else mask.data_ptr(), weight.data_ptr(), scale.data_ptr(), bias.data_ptr()),
        *(out.data_ptr(), tile_shapes().ctypes.data, 1 / step, float(zero)),
    )


@cache
def _loop(dtype: torch.dtype, in_levels: bool, by_halves: bool) -> Any:
    """Compile the loop over parts of the pixels; ``by_halves``: levels are computed in float16."""
    numbers = NUMBERS[dtype]
    sampled, summed = (np.uint8, np.int32) if in_levels else (np.uint16, np.float32)
    write_samples = sample_levels_of_halves if by_halves else sample
    add_products, load_sums = (add_level_products, load_integers) if in_levels else (add_bfloat16_products, load)

    @inlined
    def write(sums: Array, count: int, scale: Array, bias: Array, out: Array, first: int, first_channel: int) -> None:
        """Write a block of sums, scaled and with the bias, for ``count`` pixels from row ``first`` of ``out`` on.

        ``sums`` ``(2 * 32, 16)``.
        """
        for half in range(2):
            start = first_channel + half * LANES
            written = min(LANES, out.shape[1] - start)
            if written > 0:
                scales, shifts = load(scale, 0, start), load(bias, 0, start)
                for i in range(count):
                    value = load_sums(sums, half * BLOCK + i, 0) * scales + shifts
                    store_first(out, first + i, start, value, written)

    @loop(f"{dtype}_{'halves' if by_halves else 'levels' if in_levels else 'numbers'}")
    def multiply(data: Any) -> None:
        a, factors = arguments(data, 19), float_arguments(data, 19)[17:]
        inverse_step, zero = _F(factors[0]), _F(factors[1])
        height, width, taps, channels, total, out_channels = a[0], a[1], a[2], a[3], a[4], a[5]
        first_pixel, last_pixel, blocks = a[6], a[7], a[8]
        rows = carray(pointer(a[9]), (total, channels), numbers)
        offset = carray(pointer(a[10]), (total, taps, 2), np.float32)
        mask = carray(pointer(a[11]), (total if a[11] else 0, taps), np.float32)
        panels = -(-out_channels // WIDE_PANEL)
        scale = carray(pointer(a[13]), (1, panels * WIDE_PANEL), np.float32)
        bias = carray(pointer(a[14]), (1, panels * WIDE_PANEL), np.float32)
        out = carray(pointer(a[15]), (total, out_channels), numbers)
        memory = np.empty(blocks * BLOCK * taps * channels + ROW_BYTES, sampled)
        begin = -memory.ctypes.data % ROW_BYTES // memory.itemsize
        in_row = ROW_BYTES // memory.itemsize
        steps = taps * channels // in_row
        samples = memory[begin : begin + blocks * BLOCK * taps * channels].reshape(-1, in_row)
        sums = np.empty((2 * BLOCK, LANES), summed)
        shapes_before = np.empty(64, np.uint8)
        begin_tiles(a[16], shapes_before)
        part = next_part(data)
        while part < parts(data):
            first = first_pixel + part * blocks * BLOCK
            count = min(blocks * BLOCK, last_pixel - first)
            for k in range(count):
                to = k // BLOCK * steps * BLOCK + k % BLOCK
                write_samples(rows, offset, mask, height, width, first + k, inverse_step, zero, samples, to, BLOCK)
            for panel in range(panels):
                weights = a[12] + panel * steps * WIDE_STEP_BYTES
                for block in range(-(-count // BLOCK)):
                    place = samples.ctypes.data + block * steps * WIDE_STEP_BYTES
                    clear_sums()
                    for step in range(steps):
                        at = step * WIDE_STEP_BYTES
                        second = place + at + ROWS_OF_TILE * ROW_BYTES
                        add_products(place + at, second, ROW_BYTES, weights + at)
                    write_sums(sums.ctypes.data)
                    pixels = min(BLOCK, count - block * BLOCK)
                    write(sums, pixels, scale, bias, out, first + block * BLOCK, panel * WIDE_PANEL)
            finish_part(data)
            part = next_part(data)
        end_tiles(shapes_before)

    return multiply
