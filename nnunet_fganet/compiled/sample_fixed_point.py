"""Samples of a deformable convolution and their products as 16-bit integers, by matrix units (:mod:`.fixed_point`).

A thread takes the samples of some pixels, which its core's cache holds as integers until they are multiplied.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch.nn import functional

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.fixed_point import MOST_PRODUCTS, convolve_panel
from nnunet_fganet.compiled.integers import factors_of_float32, write_integers
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    PANEL,
    STEP,
    STEP_BYTES,
    begin_tiles,
    end_tiles,
    has_matrix_units,
    tile_shapes,
)
from nnunet_fganet.compiled.sample_products import PART_BYTES
from nnunet_fganet.compiled.sampling import check_samples, sample
from nnunet_fganet.compiled.threads import (
    arguments,
    check_array,
    finish_part,
    next_part,
    parts,
    pointer,
    run_parts,
)

Array = NDArray[Any]
_F = np.float32
_MOST_PIXELS = 128  # of a part


def multiply_sample_integers(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """``samples @ weight + bias``, of samples rounded to 2 ** -15 of the largest that their image allows.

    Parameters
    ----------
    rows, offset, mask, size
        See :func:`.sampling.sample_columns`; float32.
    weight, scale
        Of :func:`.fixed_point_weight.fixed_point_weight`, of ``(out_channels, taps * channels, 1, 1)``.
    bias
        ``(out_channels,)``, float32.

    Returns
    -------
    torch.Tensor
        ``(batch * height * width, out_channels)``, float32. NaN in an offset makes NaN of its pixel; what is not finite
        in ``rows`` or ``mask`` makes NaN of its image.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, sums would not fit 32 bits, or there are no matrix units.
    """
    if not has_matrix_units():
        raise ValueError("this processor has no matrix units for 8-bit integers that this process may use")
    total, channels = rows.shape
    taps, out_channels = offset.shape[1], len(bias)
    numbers, panels = taps * channels, -(-out_channels // PANEL)
    check_samples(rows, offset, mask, size, taps, (torch.float32,))
    check_array("weight", weight, torch.int8, panels, 1, -(-numbers // STEP), 2, STEP // 4, PANEL, 4)
    if numbers > MOST_PRODUCTS:
        raise ValueError(f"32 bits do not hold the sums of {numbers} products")
    check_array("scale", scale, torch.float32, out_channels)
    check_array("bias", bias, torch.float32, out_channels)
    scale, bias = (functional.pad(each, (0, -out_channels % PANEL)) for each in (scale, bias))
    out = rows.new_empty(total, out_channels)
    blocks = max(1, min(_MOST_PIXELS, PART_BYTES // (2 * numbers)) // BLOCK)
    blocks = min(blocks, -(-total // (BLOCK * torch.get_num_threads())))
    images, largest = total // (size[0] * size[1]), _largest_samples(rows, mask, size)
    portions = -(-size[0] * size[1] // (blocks * BLOCK))  # of an image
    run_parts(
        _loop(),
        images * portions,
        *(*size, taps, channels, total, out_channels, blocks * BLOCK, rows.data_ptr(), offset.data_ptr()),
        *(0 if mask is None else mask.data_ptr(), weight.data_ptr(), scale.data_ptr(), bias.data_ptr()),
        *(out.data_ptr(), tile_shapes().ctypes.data, largest.data_ptr()),
    )
    return out


def _largest_samples(rows: torch.Tensor, mask: torch.Tensor | None, size: tuple[int, int]) -> torch.Tensor:
    """What no sample of an image is larger than, ``(batch,)``."""
    largest = torch.ones(())
    for each in (rows,) if mask is None else (rows, mask):
        low, high = torch.aminmax(each.view(-1, size[0] * size[1] * each.shape[1]), dim=1)
        largest = largest * torch.maximum(-low, high)
    return largest.contiguous()


@compiled
def _write_samples(
    rows: Array, offset: Array, mask: Array, height: int, width: int, pixel: int, factor: Any, line: Array,
    part: Array, to: int,
) -> bool:  # fmt: skip
    """Write the samples of a pixel as integers; returns whether one of them is NaN.

    ``line`` ``(taps, channels)``, float32: memory for the samples. ``part`` ``(2, numbers)``, int8: high and low bytes,
    written from ``to`` on.
    """
    sample(rows, offset, mask, height, width, pixel, _F(1), _F(0), line, 0, 1)
    write_integers(line.reshape(1, -1), 0, 0, line.size, factor, _F(1), part, to)
    return bool(np.isnan(line[:, 0]).any())


@cache
def _loop() -> Any:
    """Compile the loop over parts of the pixels."""

    @loop("float32")
    def multiply_integers(data: Any) -> None:
        a = arguments(data, 16)
        height, width, taps, channels, total, out_channels, most = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        rows = carray(pointer(a[7]), (total, channels), _F)
        offset = carray(pointer(a[8]), (total, taps, 2), _F)
        mask = carray(pointer(a[9]), (total if a[9] else 0, taps), _F)
        panels, numbers = -(-out_channels // PANEL), taps * channels
        scale = carray(pointer(a[11]), (1, panels * PANEL), _F)
        bias = carray(pointer(a[12]), (1, panels * PANEL), _F)
        out = carray(pointer(a[13]), (total, out_channels), _F)
        steps = -(-numbers // STEP)
        # The last step of a pixel reads beyond it, and multiplies by zeros.
        size = -(-(most * numbers + STEP) // STEP) * STEP
        memory = np.zeros(2 * size + STEP, np.int8)
        aligned = -memory.ctypes.data % STEP  # see fixed_point
        part = memory[aligned : aligned + 2 * size].reshape(2, size)
        line, sums = np.empty((taps, channels), _F), np.empty((4 * BLOCK, PANEL), np.int32)
        is_nan, pixels = np.empty(most, np.bool_), height * width
        largest, portions = carray(pointer(a[15]), total // pixels, _F), -(-pixels // most)
        shapes_before = np.empty(64, np.uint8)
        begin_tiles(a[14], shapes_before)
        number = next_part(data)
        while number < parts(data):
            image, begin = number // portions, number % portions * most
            first, count = image * pixels + begin, min(most, pixels - begin)
            is_finite = largest[image] < np.inf
            factors = factors_of_float32(largest[image] if is_finite else _F(1))
            unit = factors[2] if is_finite else _F(np.nan)
            for k in range(count):
                is_nan[k] = _write_samples(
                    rows, offset, mask, height, width, first + k, factors[0], line, part, k * numbers
                )
            for panel in range(panels):
                weights = a[10] + panel * steps * STEP_BYTES
                convolve_panel(
                    part, 1, most, numbers, 1, 1, weights, steps, 0, 1, count,
                    sums, unit, scale, bias, _F(1), out, first, count, panel * PANEL,
                )  # fmt: skip
            for k in range(count):
                if is_nan[k]:
                    out[first + k] = np.nan
            finish_part(data)
            number = next_part(data)
        end_tiles(shapes_before)

    return multiply_integers
