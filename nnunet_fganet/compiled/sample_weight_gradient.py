"""Gradient of the weights of a deformable convolution, by matrix units (:mod:`.matrix_units`).

It is a product over all pixels: what arrives for each, times its samples. A thread takes some channels of the samples
of one tap at a time, and samples what its core's cache holds until it is multiplied: neither all samples nor a gradient
in bfloat16 are written to memory.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, inlined, loop
from nnunet_fganet.compiled.lanes import BITS, HALF_BITS, LANES, LANES_TYPE, load, narrowed, store
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    ROW_BYTES,
    ROWS_OF_TILE,
    WIDE_PANEL,
    WIDE_STEP_BYTES,
    add_bfloat16_products,
    begin_tiles,
    clear_sums,
    continue_sums,
    end_tiles,
    has_matrix_units,
    tile_shapes,
    write_sums,
)
from nnunet_fganet.compiled.sampling import check_samples, corners
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Array = NDArray[Any]
_PIXELS = 512  # whose samples lie in a core's cache at a time
_STEP = 32  # pixels that one step multiplies
_CHANNELS = 256  # of the samples of a part, at most
_SUMS_BYTES = 2 * BLOCK * ROW_BYTES  # of a block of 32 x 32
_PAIRS = types.Array(types.uint32, 2, "C")


def multiplies_gradients(channels: int, out_channels: int) -> bool:
    """Whether :func:`sample_weight_gradient` takes so many channels, and this processor computes it."""
    return has_matrix_units() and channels % WIDE_PANEL == 0 and out_channels % BLOCK == 0


def sample_weight_gradient(
    rows: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None, size: tuple[int, int], gradient: torch.Tensor
) -> torch.Tensor:
    """``gradient.t() @ samples``, added up in float32.

    Parameters
    ----------
    rows, offset, mask, size
        See :func:`.sampling.sample_columns`; ``rows`` bfloat16, their channels a multiple of 32.
    gradient
        ``(batch * height * width, out_channels)``, contiguous, bfloat16; ``out_channels`` is a multiple of 32.

    Returns
    -------
    torch.Tensor
        ``(out_channels, taps * channels)``, float32.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or there are no matrix units.
    """
    total, channels = rows.shape
    taps, out_channels = offset.shape[1], gradient.shape[1]
    if not multiplies_gradients(channels, out_channels):
        raise ValueError(f"no matrix units, or {channels} and {out_channels} channels are no multiples of {BLOCK}")
    check_samples(rows, offset, mask, size, taps, (torch.bfloat16,))
    check_array("gradient", gradient, torch.bfloat16, total, out_channels)
    steps = -(-total // _STEP)
    left = gradient.new_empty(out_channels // BLOCK, steps, BLOCK, _STEP)
    run_parts(_transpose_loop(), steps, total, out_channels, gradient.data_ptr(), left.data_ptr())
    out = rows.new_empty(out_channels, taps * channels, dtype=torch.float32)
    width = math.gcd(channels, _CHANNELS)
    run_parts(
        _loop(),
        taps * channels // width,
        *(*size, taps, channels, total, out_channels, width, rows.data_ptr(), offset.data_ptr()),
        *(0 if mask is None else mask.data_ptr(), left.data_ptr(), out.data_ptr(), tile_shapes().ctypes.data),
    )
    return out


@cache
def _transpose_loop() -> Any:
    """Compile the loop over steps of all pixels, which become left factors: zeros for those that there are not."""

    @loop("bfloat16")
    def transpose(data: Any) -> None:
        a = arguments(data, 4)
        total, channels = a[0], a[1]
        given = carray(pointer(a[2]), (total, channels), np.uint16)
        out = carray(pointer(a[3]), (channels // BLOCK, parts(data), BLOCK, _STEP), np.uint16)
        step = next_part(data)
        while step < parts(data):
            first = step * _STEP
            count = min(_STEP, total - first)
            for channel in range(channels):
                line = out[channel // BLOCK, step, channel % BLOCK]
                line[count:] = 0
                for k in range(count):
                    line[k] = given[first + k, channel]
            finish_part(data)
            step = next_part(data)

    return transpose


@intrinsic
def _store_pairs(typing_context: Any, out: Any, row: Any, first: Any, second: Any) -> Any:
    """Write sixteen pairs of numbers in bfloat16, one of each of two, into a row of sixteen 32-bit numbers."""
    if out != _PAIRS:
        return None  # Numba says that it has no such function

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        out_, row, *lanes = values
        low, high = (builder.zext(narrowed(builder, each, HALF_BITS), BITS) for each in lanes)
        pairs = builder.or_(low, builder.shl(high, ir.Constant(BITS, [16] * LANES)))
        array = context.make_array(_PAIRS)(context, builder, out_)
        check = context.enable_boundscheck
        place = cgutils.get_item_pointer(context, builder, _PAIRS, array, [row, row.type(0)], boundscheck=check)
        builder.store(pairs, builder.bitcast(place, BITS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(out, types.intp, LANES_TYPE, LANES_TYPE), generate


@inlined
def _mixture(rows: Array, places: Any, shares: Any, x: int) -> Any:
    """Sixteen channels of a sample, from ``x`` on."""
    a, b, c, d = places
    wa, wb, wc, wd = shares
    return wa * load(rows, a, x) + wb * load(rows, b, x) + (wc * load(rows, c, x) + wd * load(rows, d, x))


@compiled
def _sample_pairs(
    rows: Array, offset: Array, mask: Array, size: Any, first: int, count: int, tap: int, start: int, width: int,
    samples: Array,
) -> None:  # fmt: skip
    """Samples of one tap of ``count`` pixels, ``width`` channels from ``start`` on, as right factors of products.

    ``samples`` ``(width / 32 * steps * 2 * 16, 16)``: panel by panel of 32 channels, step by step, two tiles of pairs
    of pixels each.
    """
    steps, kernel = -(-count // _STEP), int(math.sqrt(offset.shape[1]))
    height, wide = size
    for pair in range(steps * ROWS_OF_TILE):
        one = first + min(2 * pair, count - 1)
        two = first + min(2 * pair + 1, count - 1)  # behind the last pixel: what is multiplied by zeros
        places_one, shares_one = corners(offset, mask, kernel, height, wide, one, tap)
        places_two, shares_two = corners(offset, mask, kernel, height, wide, two, tap)
        step, line = pair // ROWS_OF_TILE, pair % ROWS_OF_TILE
        for k in range(0, width, LANES):
            tile = (k // WIDE_PANEL * steps + step) * 2 + k % WIDE_PANEL // LANES
            value_one = _mixture(rows, places_one, shares_one, start + k)
            value_two = _mixture(rows, places_two, shares_two, start + k)
            _store_pairs(samples, tile * ROWS_OF_TILE + line, value_one, value_two)


@inlined
def _multiply_pixels(
    left: int, all_steps: int, count: int, blocks: int, panels: int, samples: Array, sums: Array, first: int
) -> None:
    """Add the products of ``count`` pixels, of which ``first`` is the first, to all blocks of sums.

    ``left``: address of the left factors ``(blocks, all_steps, 32, 32)``; ``sums`` ``(panels * blocks * 2 * 32, 16)``.
    """
    steps, begin = -(-count // _STEP), first // _STEP
    for panel in range(panels):
        right = samples.ctypes.data + panel * steps * WIDE_STEP_BYTES
        for block in range(blocks):
            place = sums.ctypes.data + (panel * blocks + block) * _SUMS_BYTES
            if first > 0:
                continue_sums(place)
            else:
                clear_sums()
            for step in range(steps):
                one = left + (block * all_steps + begin + step) * WIDE_STEP_BYTES
                two = one + ROWS_OF_TILE * ROW_BYTES
                add_bfloat16_products(one, two, ROW_BYTES, right + step * WIDE_STEP_BYTES)
            write_sums(place)


@inlined
def _write_sums(sums: Array, blocks: int, panels: int, out: Array, column: int) -> None:
    """Write all blocks of sums into columns of ``out``, from ``column`` on."""
    for channel in range(out.shape[0]):
        for half in range(2 * panels):
            held = (half // 2 * blocks + channel // BLOCK) * 2 + half % 2
            store(out, channel, column + half * LANES, load(sums, held * BLOCK + channel % BLOCK, 0))


@cache
def _loop() -> Any:
    """Compile the loop over some channels of a tap at a time."""

    @loop("bfloat16")
    def weight_gradients(data: Any) -> None:
        a = arguments(data, 13)
        size, taps, channels, total, out_channels, width = (a[0], a[1]), a[2], a[3], a[4], a[5], a[6]
        rows = carray(pointer(a[7]), (total, channels), np.uint16)
        offset = carray(pointer(a[8]), (total, taps, 2), np.float32)
        mask = carray(pointer(a[9]), (total if a[9] else 0, taps), np.float32)
        out = carray(pointer(a[11]), (out_channels, taps * channels), np.float32)
        memory = np.empty(_PIXELS * width // 2 + LANES, np.uint32)
        begin = -memory.ctypes.data % ROW_BYTES // memory.itemsize
        samples = memory[begin : begin + _PIXELS * width // 2].reshape(-1, LANES)
        panels, blocks, all_steps = width // WIDE_PANEL, out_channels // BLOCK, -(-total // _STEP)
        sums = np.empty((panels * blocks * 2 * BLOCK, LANES), np.float32)
        shapes_before = np.empty(64, np.uint8)
        begin_tiles(a[12], shapes_before)
        part = next_part(data)
        while part < parts(data):
            tap, start = part * width // channels, part * width % channels
            for first in range(0, total, _PIXELS):
                count = min(_PIXELS, total - first)
                _sample_pairs(rows, offset, mask, size, first, count, tap, start, width, samples)
                _multiply_pixels(a[10], all_steps, count, blocks, panels, samples, sums, first)
            _write_sums(sums, blocks, panels, out, part * width)
            finish_part(data)
            part = next_part(data)
        end_tiles(shapes_before)

    return weight_gradients
