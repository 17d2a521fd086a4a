"""Convolutions of float16 or float32 images, channels last, by matrix units for 8-bit integers (:mod:`.matrix_units`).

Lines of an image are copied into memory of the thread as 16-bit integers, times what the largest value of a part of the
image allows, with zeros around the image. There the pixels that 16 neighbouring outputs read for one
tap are the rows of a tile: nothing has to be laid out, and neighbouring taps of a row follow each other in memory.
Weights are 16-bit integers, scaled by output channel. Three products of 8-bit integers take half as long again as one
in bfloat16; the error is that of an image rounded to 2 ** -15 of its largest value, some twentieth of bfloat16's.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch.nn import functional

from nnunet_fganet.compiled.bilateral import gate_row, join_row
from nnunet_fganet.compiled.decorators import compiled, inlined, loop
from nnunet_fganet.compiled.first_lanes import store_first
from nnunet_fganet.compiled.half import NUMBERS
from nnunet_fganet.compiled.image_parts import place_of_part, run_start, size_of_part
from nnunet_fganet.compiled.integers import (
    FACTORS,
    NUMBERS_AT_A_TIME,
    largest_magnitude,
    write_integers,
)
from nnunet_fganet.compiled.lanes import leaky_relu, load, load_integers
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    PANEL,
    ROWS_OF_TILE,
    STEP,
    STEP_BYTES,
    SUMS_BYTES,
    add_tile_products,
    begin_tiles,
    clear_sums,
    end_tiles,
    has_matrix_units,
    tile_shapes,
    write_sums,
)
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
_COLUMNS = 128  # of outputs of a part, at most
_NUMBERS = 600_000  # of a line of a part, at most: as integers a line is read from a core's cache for each panel
_PART_BYTES = 500_000  # of the numbers with one exponent, which are read twice: the second time from a core's cache
_PARTS_A_THREAD = 2  # at least
MOST_PRODUCTS = 2**31 // (2 * 128 * 127)  # of a sum of 32 bits, each of which counts twice


def fixed_point_conv2d(
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    stride: int,
    slope: float,
    dtype: torch.dtype,
    others: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Convolve with "same" padding, then LeakyReLU.

    Parameters
    ----------
    rows
        ``(batch, height, width, in_channels)``, contiguous, float16 or float32; with ``others`` what these join.
    weight, scale
        Of :func:`.fixed_point_weight.fixed_point_weight`; k is odd.
    bias
        ``(out_channels,)``, float32.
    stride
        Of the outputs, in px.
    slope
        Of LeakyReLU: 0 is ReLU, 1 leaves the values as they are.
    dtype
        Of the result: float32 or float16.
    others
        What makes the image together with ``rows``, part by part, so that it is never written down as a whole: the
        deeper features of :func:`.bilateral.join`, or gate and coarse features of :func:`.bilateral.gate_and_add`.

    Returns
    -------
    torch.Tensor
        ``(batch, ceil(height / stride), ceil(width / stride), out_channels)``. A value of the image that is not
        finite makes NaN of the whole part of the image that reads it.

    Raises
    ------
    ValueError
        What is given is of another kind, number or shape, sums would not fit 32 bits, or there are no matrix units.
    """
    if not has_matrix_units():
        raise ValueError("this processor has no matrix units for 8-bit integers that this process may use")
    batch, height, width, channels = rows.shape
    kernel, out_channels = weight.shape[1], len(bias)
    if rows.dtype not in FACTORS:
        raise ValueError(f"rows must be float16 or float32, not {rows.dtype}")
    check_array("rows", rows, rows.dtype, batch, height, width, channels)
    if len(others) > 2:
        raise ValueError(f"an image is joined from one or two others, not {len(others)}")
    if others:
        half_height, half_width, deep_channels = others[0].shape[1:]
        check_array("rows", rows, rows.dtype, len(others[0]), 2 * half_height, 2 * half_width, channels)
        for other in others:
            check_array("others", other, rows.dtype, batch, half_height, half_width, deep_channels)
        if len(others) == 2:
            check_array("rows", rows, rows.dtype, batch, height, width, deep_channels)
        else:
            channels += deep_channels
    panels, steps = -(-out_channels // PANEL), -(-kernel * channels // STEP)
    check_array("weight", weight, torch.int8, panels, kernel, steps, 2, STEP // 4, PANEL, 4)
    if kernel**2 * channels > MOST_PRODUCTS:
        raise ValueError(f"32 bits do not hold the sums of {kernel} x {kernel} x {channels} products")
    check_array("scale", scale, torch.float32, out_channels)
    check_array("bias", bias, torch.float32, out_channels)
    scale, bias = (functional.pad(each, (0, -out_channels % PANEL)) for each in (scale, bias))
    out = rows.new_empty(batch, -(-height // stride), -(-width // stride), out_channels, dtype=dtype)
    columns = max(2, _NUMBERS // (stride * channels) // ROWS_OF_TILE) * ROWS_OF_TILE
    pixel_bytes = channels * rows.element_size()
    lines, columns = size_of_part(
        (out.shape[1], out.shape[2]), kernel, stride, min(_COLUMNS, columns), pixel_bytes, _PART_BYTES
    )
    across, down = -(-out.shape[2] // columns), -(-out.shape[1] // lines)
    shares = min(panels, -(-_PARTS_A_THREAD * torch.get_num_threads() // max(1, batch * across * down)))
    second, third = (*(each.data_ptr() for each in others), 0, 0)[:2]
    run_parts(
        _loop(rows.dtype, dtype),
        batch * down * across * shares,
        *(batch, height, width, channels, out_channels, kernel, stride, lines, columns, shares),
        *(rows.data_ptr(), weight.data_ptr(), scale.data_ptr(), bias.data_ptr(), out.data_ptr()),
        *(tile_shapes().ctypes.data, float(slope), len(others), rows.shape[-1], second, third),
    )
    return out


@compiled
def _make_part(
    images: Array, second: Array, third: Array, others: int, row: int, halves: Any, left: int, right: int,
    halfway: Array, out: Array,
) -> None:  # fmt: skip
    """Join or gate what makes a part of an image: its rows from ``row`` on, columns ``left`` to ``right``.

    ``halves``, ``halfway``: see :func:`.bilateral.gate_row`.
    """
    for k in range(len(out)):
        if others == 1:
            join_row(images, second, row + k, halves, left, right, halfway, out, k)
        else:
            gate_row(images, second, third, row + k, halves, left, right, halfway, out, k)


@compiled
def _fill_line(image: Array, width: int, row: int, left: int, factors: Any, part: Array, to: int, columns: int) -> None:
    """Copy columns of a row of an image, of which the first is ``left``, as integers; zeros outside the image.

    ``image`` ``(height, width * channels)``; ``part`` ``(2, numbers)``, int8: high and low bytes, written from ``to``
    on.
    """
    height, channels = image.shape[0], image.shape[1] // width
    first, last = min(columns, max(0, -left)), max(0, min(columns, width - left))
    if not 0 <= row < height or first >= last:
        part[:, to : to + columns * channels] = 0
        return
    part[:, to : to + first * channels] = 0
    part[:, to + last * channels : to + columns * channels] = 0
    start, stop = (left + first) * channels, (left + last) * channels
    write_integers(image, row, start, stop, factors[0], factors[1], part, to + first * channels)


@inlined
def _write(
    sums: Array, held: int, first: int, last: int, valid: int, scales: Any, shifts: Any, slope: Any,
    out: Array, one: int, two: int, start: int,
) -> None:  # fmt: skip
    """Write rows ``first`` to ``last`` of a block of sums as channels from ``start`` on: scaled, bias added, activated.

    ``sums`` ``(rows, 16)``, of which the block begins with row ``held``; ``out`` ``(pixels, channels)``, of which the
    two runs of the block begin with ``one`` and ``two``, with ``valid`` pixels each.
    """
    count = min(PANEL, out.shape[1] - start)
    for i in range(first, last):
        if i % ROWS_OF_TILE < valid:
            pixel = one + i if i < ROWS_OF_TILE else two + i - ROWS_OF_TILE
            value = _F(256) * load_integers(sums, held + i, 0) + load_integers(sums, held + BLOCK + i, 0)
            store_first(out, pixel, start, leaky_relu(value * scales + shifts, slope), count)


@inlined
def convolve_panel(
    part: Array, ring: int, columns: int, channels: int, kernel: int, stride: int, factor: int, steps: int,
    line: int, lines: int, width: int, sums: Array, unit: Any, scale: Array, bias: Array, slope: Any,
    out: Array, first: int, out_width: int, start: int,
) -> None:  # fmt: skip
    """Multiply lines of a part of an image by a panel of the weights, whose address is ``factor``.

    Its outputs are ``lines`` rows of ``width`` pixels, the first of which is row ``line`` of the part and number
    ``first`` of ``out``. While a block of them is multiplied, the sums of the one before it are written: the units and
    the rest of the core work at once.
    """
    runs, valid = -(-width // ROWS_OF_TILE), min(ROWS_OF_TILE, width)
    base, low = part.ctypes.data, part.shape[1]
    scales, shifts = (_F(256) * unit) * load(scale, 0, start), load(bias, 0, start)
    one = two = first
    pairs = -(-lines * runs // 2)
    for pair in range(pairs):
        before_one, before_two = one, two
        row_one, column_one = run_start(2 * pair, runs, width)
        row_two, column_two = run_start(min(2 * pair + 1, lines * runs - 1), runs, width)
        one, two = first + row_one * out_width + column_one, first + row_two * out_width + column_two
        clear_sums()
        held, written = (1 - pair % 2) * 2 * BLOCK, 0
        for row in range(kernel):
            line_one, line_two = (line + row_one) * stride + row, (line + row_two) * stride + row
            from_one = base + (line_one % ring * columns + column_one * stride) * channels
            from_two = base + (line_two % ring * columns + column_two * stride) * channels
            for step in range(row * steps, (row + 1) * steps):
                place = (step - row * steps) * STEP
                add_tile_products(
                    from_one + place, from_two + place, low, stride * channels, factor + step * STEP_BYTES
                )
                if pair > 0:
                    until = (step + 1) * BLOCK // (kernel * steps)
                    _write(sums, held, written, until, valid, scales, shifts, slope, out, before_one, before_two, start)
                    written = until
        write_sums(sums.ctypes.data + pair % 2 * SUMS_BYTES)
    held = (1 - pairs % 2) * 2 * BLOCK
    _write(sums, held, 0, BLOCK, valid, scales, shifts, slope, out, one, two, start)


@cache
def _loop(dtype: torch.dtype, out_dtype: torch.dtype) -> Any:
    """Compile the loop over parts of all images, and over shares of the panels of each."""
    given, numbers, factors_of_integers = NUMBERS[dtype], NUMBERS[out_dtype], FACTORS[dtype]

    @loop(f"{dtype}_{out_dtype}")
    def convolve(data: Any) -> None:
        a = arguments(data, 21)
        batch, height, width, channels, out_channels = a[0], a[1], a[2], a[3], a[4]
        kernel, stride, lines, columns, shares = a[5], a[6], a[7], a[8], a[9]
        out_height, out_width, panels = -(-height // stride), -(-width // stride), -(-out_channels // PANEL)
        others, given_channels, halves = a[17], a[18], (height // 2, width // 2)
        images = carray(pointer(a[10]), (batch * height, width * given_channels), given)
        half_channels = channels - given_channels if others == 1 else channels
        half_shape = batch * halves[0], halves[1] * half_channels
        second, third = carray(pointer(a[19]), half_shape, given), carray(pointer(a[20]), half_shape, given)
        scale = carray(pointer(a[12]), (1, panels * PANEL), np.float32)
        bias = carray(pointer(a[13]), (1, panels * PANEL), np.float32)
        out = carray(pointer(a[14]), (batch * out_height * out_width, out_channels), numbers)
        slope = _F(float_arguments(data, 21)[16])
        steps = -(-kernel * channels // STEP)
        wide = (max(columns, ROWS_OF_TILE) - 1) * stride + kernel
        group = 1 + -(-columns // ROWS_OF_TILE) % 2  # rows of outputs at a time: an even number of runs
        ring = (group - 1) * stride + kernel  # lines of the image that lie in ``part``
        # The last steps of a row read beyond it, and multiply by zeros.
        size = -(-(ring * wide * channels + STEP) // STEP) * STEP
        memory = np.zeros(2 * size + STEP, np.int8)
        start = -memory.ctypes.data % STEP  # tiles whose rows are lines of the cache take half as long to load
        part = memory[start : start + 2 * size].reshape(2, size)
        magnitudes = np.empty((1, NUMBERS_AT_A_TIME), given)
        sums = np.empty((4 * BLOCK, PANEL), np.int32)
        made = np.empty(((lines - 1) * stride + kernel) * wide * channels if others > 0 else 0, given)
        halfway = np.empty((2, halves[1] * half_channels if others > 0 else 0), np.float32)
        shapes_before = np.empty(64, np.uint8)
        begin_tiles(a[15], shapes_before)
        number = next_part(data)
        while number < parts(data):
            share = number % shares
            place = place_of_part(number // shares, out_height, out_width, lines, columns)
            image, top, left, count, count_across = place
            row, column = top * stride - kernel // 2, left * stride - kernel // 2
            # What of these rows and columns is inside the image.
            above, below = max(0, row), min(height, row + (count - 1) * stride + kernel)
            before, behind = max(0, column), min(width, column + (count_across - 1) * stride + kernel)
            source, source_width = images[image * height : (image + 1) * height], width
            if others > 0:
                source_width = behind - before
                source = made[: (below - above) * source_width * channels].reshape(below - above, -1)
                first_row = image * height + above
                _make_part(images, second, third, others, first_row, halves, before, behind, halfway, source)
                row, column = row - above, column - before
                above, below, before, behind = 0, below - above, 0, source_width
            largest = largest_magnitude(source, above, below, before * channels, behind * channels, magnitudes)
            factors = factors_of_integers(largest if largest < np.inf else _F(1))
            unit = factors[2] if largest < np.inf else _F(np.nan)
            filled = 0
            for line in range(0, count, group):
                several = min(group, count - line)
                while filled < (line + several - 1) * stride + kernel:
                    to = filled % ring * wide * channels
                    _fill_line(source, source_width, row + filled, column, factors, part, to, wide)
                    filled += 1
                first = (image * out_height + top + line) * out_width + left
                for panel in range(share * panels // shares, (share + 1) * panels // shares):
                    factor = a[11] + panel * kernel * steps * STEP_BYTES
                    convolve_panel(
                        part, ring, wide, channels, kernel, stride, factor, steps, line, several, count_across,
                        sums, unit, scale, bias, slope, out, first, out_width, panel * PANEL,
                    )  # fmt: skip
            finish_part(data)
            number = next_part(data)
        end_tiles(shapes_before)

    return convolve
