"""The soft skeleton and its gradient on GPUs, as Triton kernels.

What :mod:`nnunet_fganet.compiled.skeleton` is on CPUs. torch's pooling writes 64-bit indices beside each value, and
keeps them and every image between two operations for the gradient; here an erosion is one pass, what an opening
removes another, and places of extremes are small integers that exist for one erosion at a time.
"""

from typing import Any

import torch
import triton
import triton.language as tl

_ROWS, _COLUMNS = 8, 64  # of a program


def skeletonize(x: torch.Tensor, iterations: int) -> torch.Tensor:
    """Soft skeleton of every image.

    Parameters
    ----------
    x
        ``(batch, channels, height, width)``, float32, contiguous.
    iterations
        Erosions after the first opening.

    Returns
    -------
    torch.Tensor
        Of the shape of ``x``.
    """
    skeleton, eroded, image = torch.zeros_like(x), torch.empty_like(x), torch.empty_like(x)
    for step in range(iterations + 1):
        before = image if step else x
        _run(_erode, x, before, eroded)
        _run(_add_residue, x, before, eroded, skeleton, skeleton)
        image, eroded = eroded, image
    return skeleton


def skeleton_gradient(x: torch.Tensor, iterations: int, gradient: torch.Tensor) -> torch.Tensor:
    """Gradient for ``x`` from that for its skeleton.

    Parameters
    ----------
    x, iterations
        As :func:`skeletonize` had them.
    gradient
        For the skeleton: ``(batch, channels, height, width)``, float32, contiguous. It is overwritten.

    Returns
    -------
    torch.Tensor
        Of the shape of ``x``. Where several pixels hold a minimum or maximum, the gradient goes where torch's pooling
        sends it.
    """
    images = [x, *(torch.empty_like(x) for _ in range(iterations + 1))]
    skeletons = [torch.zeros_like(x), *(torch.empty_like(x) for _ in range(iterations))]
    for k in range(iterations + 1):
        _run(_erode, x, images[k], images[k + 1])
        if k < iterations:
            _run(_add_residue, x, images[k], images[k + 1], skeletons[k], skeletons[k + 1])
    of_residue, of_eroded, of_image = torch.empty_like(x), torch.empty_like(x), torch.zeros_like(x)
    places = torch.empty_like(x, dtype=torch.int8)
    for k in range(iterations, -1, -1):
        _run(_residue_gradient, x, images[k], images[k + 1], skeletons[k], gradient, of_residue, places)
        _run(_dilation_gradient, x, of_residue, places, of_image, of_eroded)
        _run(_find_minima, x, images[k], places)
        _run(_erosion_gradient, x, of_eroded, places, of_residue, of_image)
    return of_image


def _run(kernel: Any, x: torch.Tensor, *arrays: torch.Tensor) -> None:
    """Launch ``kernel`` over all pixels of ``x``."""
    batch, channels, height, width = x.shape
    grid = (triton.cdiv(width, _COLUMNS), triton.cdiv(height, _ROWS), batch * channels)
    with torch.cuda.device_of(x):
        kernel[grid](*arrays, height, width, ROWS=_ROWS, COLUMNS=_COLUMNS)


@triton.jit
def _pixels(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Number, row and column of a program's pixels, ``(ROWS, COLUMNS)`` of one image, and which exist."""
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    first = tl.program_id(2).to(tl.int64) * height * width
    return first + row * width + column, row, column, (row < height) & (column < width)


@triton.jit
def _neighbour(array, pixel, row, column, there, down, right, height, width, other):
    """What ``array`` holds so many pixels down and to the right; ``other`` outside the image."""
    inside = there & (row + down >= 0) & (row + down < height) & (column + right >= 0) & (column + right < width)
    return tl.load(array + pixel + down * width + right, mask=inside, other=other)


@triton.jit
def _erode(image, eroded, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Minimum over a pixel and its four neighbours."""
    pixel, row, column, there = _pixels(height, width, ROWS, COLUMNS)
    infinity = float("inf")
    minimum = tl.load(image + pixel, mask=there, other=0.0)
    for side in tl.static_range(-1, 2, 2):
        above_or_below = _neighbour(image, pixel, row, column, there, side, 0, height, width, infinity)
        beside = _neighbour(image, pixel, row, column, there, 0, side, height, width, infinity)
        minimum = tl.minimum(minimum, tl.minimum(above_or_below, beside))
    tl.store(eroded + pixel, minimum, mask=there)


@triton.jit
def _first_maximum(image, pixel, row, column, there, height, width):
    """Maximum over 3 x 3 pixels, and the place among them that holds it first in reading order."""
    maximum = tl.full(pixel.shape, -float("inf"), tl.float32)
    place = tl.zeros(pixel.shape, tl.int32)
    for other in tl.static_range(9):
        value = _neighbour(
            image, pixel, row, column, there, other // 3 - 1, other % 3 - 1, height, width, -float("inf")
        )
        place = tl.where(value > maximum, other, place)
        maximum = tl.maximum(maximum, value)
    return maximum, place


@triton.jit
def _add_residue(image, eroded, skeleton, sum_, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The skeleton so far and what this opening removes."""
    pixel, row, column, there = _pixels(height, width, ROWS, COLUMNS)
    dilated, _ = _first_maximum(eroded, pixel, row, column, there, height, width)
    residue = tl.maximum(tl.load(image + pixel, mask=there, other=0.0) - dilated, 0.0)
    before = tl.load(skeleton + pixel, mask=there, other=0.0)
    tl.store(sum_ + pixel, before + residue * (1 - before), mask=there)


@triton.jit
def _residue_gradient(
    image, eroded, skeleton, gradient, of_residue, places, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Split the gradient for a skeleton: for the residue, and (in place) for the skeleton without it."""
    pixel, row, column, there = _pixels(height, width, ROWS, COLUMNS)
    dilated, place = _first_maximum(eroded, pixel, row, column, there, height, width)
    residue = tl.load(image + pixel, mask=there, other=0.0) - dilated
    given = tl.load(gradient + pixel, mask=there, other=0.0)
    rest = 1 - tl.load(skeleton + pixel, mask=there, other=0.0)
    tl.store(of_residue + pixel, tl.where(residue > 0, given * rest, 0.0), mask=there)
    tl.store(gradient + pixel, given * (1 - tl.maximum(residue, 0.0)), mask=there)
    tl.store(places + pixel, place.to(tl.int8), mask=there)


@triton.jit
def _dilation_gradient(
    of_residue, places, of_next_image, of_eroded, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Gradient for an eroded image: as the next image, and as what is dilated and subtracted."""
    pixel, row, column, there = _pixels(height, width, ROWS, COLUMNS)
    total = tl.load(of_next_image + pixel, mask=there, other=0.0)
    for other in tl.static_range(9):
        # The pixel that finds this one at place `other` of its neighbourhood.
        down, right = 1 - other // 3, 1 - other % 3
        place = _neighbour(places, pixel, row, column, there, down, right, height, width, -1)
        value = _neighbour(of_residue, pixel, row, column, there, down, right, height, width, 0.0)
        total -= tl.where(place == other, value, 0.0)
    tl.store(of_eroded + pixel, total, mask=there)


@triton.jit
def _find_minima(image, places, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Write where each pixel's column and row have their minimum, and whose is the smaller.

    The number is ``column + 3 row + 9 smaller``: the first of three pixels down and to the right that holds the
    minimum, and 0 where both minima are the same, 1 where the column's is smaller, 2 where the row's is.
    """
    pixel, row, column, there = _pixels(height, width, ROWS, COLUMNS)
    here = tl.load(image + pixel, mask=there, other=0.0)
    infinity = float("inf")
    above = _neighbour(image, pixel, row, column, there, -1, 0, height, width, infinity)
    below = _neighbour(image, pixel, row, column, there, 1, 0, height, width, infinity)
    left = _neighbour(image, pixel, row, column, there, 0, -1, height, width, infinity)
    right = _neighbour(image, pixel, row, column, there, 0, 1, height, width, infinity)
    in_column, in_row = tl.minimum(here, tl.minimum(above, below)), tl.minimum(here, tl.minimum(left, right))
    place = tl.where(above == in_column, 0, tl.where(here == in_column, 1, 2))
    place += tl.where(left == in_row, 0, tl.where(here == in_row, 3, 6))
    place += tl.where(in_column == in_row, 0, tl.where(in_column < in_row, 9, 18))
    tl.store(places + pixel, place.to(tl.int8), mask=there)


@triton.jit
def _erosion_gradient(
    of_eroded, places, of_residue, of_image, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Gradient for an image: as what a residue is taken from, and through its erosion to the minima."""
    pixel, row, column, there = _pixels(height, width, ROWS, COLUMNS)
    total = tl.load(of_residue + pixel, mask=there, other=0.0)
    for other in tl.static_range(3):
        # The pixels that find this one at place `other` of their column, and of their row.
        place = _neighbour(places, pixel, row, column, there, 1 - other, 0, height, width, -1).to(tl.int32)
        value = _neighbour(of_eroded, pixel, row, column, there, 1 - other, 0, height, width, 0.0)
        share = tl.where(place < 9, 0.5, tl.where(place < 18, 1.0, 0.0))
        total += tl.where((place >= 0) & (place % 3 == other), value * share, 0.0)
        place = _neighbour(places, pixel, row, column, there, 0, 1 - other, height, width, -1).to(tl.int32)
        value = _neighbour(of_eroded, pixel, row, column, there, 0, 1 - other, height, width, 0.0)
        share = tl.where(place < 9, 0.5, tl.where(place < 18, 0.0, 1.0))
        total += tl.where((place >= 0) & (place // 3 % 3 == other), value * share, 0.0)
    tl.store(of_image + pixel, total, mask=there)
