"""The soft skeleton and its gradient, an image a thread.

One image at a time stays in the processor's cache over all erosions; torch's pooling goes through
memory for each, writes 64-bit indices beside the values, and compares one value at a time. Every
inner loop here runs along a row and without branches, so that the compiler vectorises it.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Plane = NDArray[np.float32]
Row = NDArray[np.float32]
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_KEPT = 3  # rows of what is found on the way, each in the place of the one that is three above


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

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or the iterations are negative.
    """
    images, height, width = _check(x, iterations)
    skeleton = torch.empty_like(x)
    run_parts(_skeletons(), images, *(images, height, width, iterations, x.data_ptr(), skeleton.data_ptr()))
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
        Of the shape of ``x``. Where several pixels hold a minimum or maximum, the gradient goes where
        torch's pooling sends it.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or the iterations are negative.
    """
    images, height, width = _check(x, iterations)
    check_array("gradient", gradient, torch.float32, *x.shape)
    x_gradient = torch.empty_like(x)
    run_parts(
        _gradients(),
        images,
        *(images, height, width, iterations, x.data_ptr(), gradient.data_ptr(), x_gradient.data_ptr()),
    )
    return x_gradient


def _check(x: torch.Tensor, iterations: int) -> tuple[int, int, int]:
    """How many images there are, and their height and width."""
    check_array("x", x, torch.float32, *x.shape)
    if not isinstance(iterations, int) or iterations < 0:
        raise ValueError(f"iterations must be an integer of at least 0, not {iterations}")
    batch, channels, height, width = x.shape
    return batch * channels, height, width


@cache
def _skeletons() -> Any:
    """Compile the loop over images."""

    @loop("float32")
    def skeletons_of_images(data: Any) -> None:
        a = arguments(data, 6)
        shape, iterations = (a[0], a[1], a[2]), a[3]
        x, skeleton = carray(pointer(a[4]), shape, np.float32), carray(pointer(a[5]), shape, np.float32)
        part = next_part(data)
        while part < parts(data):
            _skeletonize(x[part], iterations, skeleton[part])
            finish_part(data)
            part = next_part(data)

    return skeletons_of_images


@cache
def _gradients() -> Any:
    """Compile the loop over images."""

    @loop("float32")
    def gradients_of_images(data: Any) -> None:
        a = arguments(data, 7)
        shape, iterations = (a[0], a[1], a[2]), a[3]
        x, gradient = carray(pointer(a[4]), shape, np.float32), carray(pointer(a[5]), shape, np.float32)
        x_gradient = carray(pointer(a[6]), shape, np.float32)
        part = next_part(data)
        while part < parts(data):
            _skeleton_gradient(x[part], iterations, gradient[part], x_gradient[part])
            finish_part(data)
            part = next_part(data)

    return gradients_of_images


@compiled
def _skeletonize(x: Plane, iterations: int, skeleton: Plane) -> None:
    """Write the soft skeleton of ``x`` ``(height, width)`` into ``skeleton``."""
    height, width = x.shape
    image, eroded = x.copy(), np.empty_like(x)
    maxima, dilated = np.empty((_KEPT, width), np.float32), np.empty(width, np.float32)
    skeleton[:] = 0
    for _ in range(iterations + 1):
        left = 0
        for ahead in range(height + 1):
            _erode_ahead(image, ahead, eroded, maxima)
            i = ahead - 1
            if i >= 0:
                _dilate(maxima, i, height, dilated)
                left += _add_residue(image[i], dilated, eroded[i], skeleton[i])
        if left == 0:  # nothing is left to erode: so it is with every label after a few steps
            return
        image, eroded = eroded, image


@compiled
def _skeleton_gradient(x: Plane, iterations: int, gradient: Plane, x_gradient: Plane) -> None:
    """Write the gradient for ``x`` into ``x_gradient``, from that for its skeleton (overwritten).

    With residues ``d_k`` of the k-th erosion, the skeleton is ``1 - prod(1 - d_k)``.
    """
    height, width = x.shape
    images = np.empty((iterations + 2, height, width), np.float32)
    before = np.empty((iterations + 1, height, width), np.float32)  # prod of 1 - d_j over j < k
    images[0] = x
    before[0] = 1
    for k in range(iterations):
        _erode_and_multiply(images[k], before[k], images[k + 1], before[k + 1])
    for i in range(height):
        _erode(images[iterations], i, images[iterations + 1, i])
    of_eroded, of_image = np.zeros_like(x), np.empty_like(x)
    for k in range(iterations, -1, -1):
        _step_gradient(images[k], images[k + 1], before[k], gradient, of_eroded, of_image)
        of_eroded, of_image = of_image, of_eroded
    x_gradient[:] = of_eroded


@compiled
def _erode_and_multiply(image: Plane, product: Plane, eroded: Plane, next_product: Plane) -> None:
    """Write the next erosion, and the product with what its opening leaves."""
    height, width = image.shape
    maxima, dilated = np.empty((_KEPT, width), np.float32), np.empty(width, np.float32)
    for ahead in range(height + 1):
        _erode_ahead(image, ahead, eroded, maxima)
        i = ahead - 1
        if i >= 0:
            _dilate(maxima, i, height, dilated)
            _multiply_by_rest(image[i], dilated, product[i], next_product[i])


@compiled
def _step_gradient(
    image: Plane, eroded: Plane, product: Plane, gradient: Plane, of_eroded: Plane, of_image: Plane
) -> None:
    """Write the gradient for an image, from those for its erosion (added to) and for the skeleton (multiplied).

    The dilation follows its rows' maxima by one row, the erosion the dilation by another one.
    """
    height, width = image.shape
    outside, sink = np.full(width, -np.inf, np.float32), np.empty(width, np.float32)
    maxima, of_maxima = np.empty((_KEPT, width), np.float32), np.zeros((_KEPT, width + 2), np.float32)
    dilated, of_dilated = np.empty(width, np.float32), np.empty(width, np.float32)
    wide, maximum = np.full(width + 4, -np.inf, np.float32), np.empty(width + 2, np.float32)
    memory = _erosion_memory(width)
    for ahead in range(height + 2):
        if ahead < height:
            _maximum_along(eroded[ahead], maxima[ahead % _KEPT])
            of_maxima[ahead % _KEPT] = 0
        i = ahead - 1
        if 0 <= i < height:
            _dilate(maxima, i, height, dilated)
            _residue_gradient(image[i], dilated, product[i], gradient[i], of_image[i], of_dilated)
            _pass_to_rows(
                maxima[(i - 1) % _KEPT] if i > 0 else outside,
                maxima[i % _KEPT],
                dilated,
                of_dilated,
                of_maxima[(i - 1) % _KEPT, 1:-1] if i > 0 else sink,
                of_maxima[i % _KEPT, 1:-1],
                of_maxima[(i + 1) % _KEPT, 1:-1] if i + 1 < height else sink,
            )
        i = ahead - 2
        if i >= 0:
            wide[2:-2] = eroded[i]
            maximum[1:-1] = maxima[i % _KEPT]
            _pass_along_row(wide, maximum, of_maxima[i % _KEPT], of_eroded[i])
            _erosion_gradient(image, i, eroded[i], of_eroded[i], of_image, memory, sink)


@compiled
def _erode(image: Plane, i: int, out: Row) -> None:
    """Minimum over each pixel of row ``i`` and its four neighbours."""
    height, width = image.shape
    above, row, below = image[max(i - 1, 0)], image[i], image[min(i + 1, height - 1)]
    for j in range(width):
        out[j] = min(row[j], min(above[j], below[j]))
    for j in range(width - 1):
        out[j] = min(out[j], row[j + 1])
    for j in range(width - 1):
        out[j + 1] = min(out[j + 1], row[j])


@compiled
def _erode_ahead(image: Plane, ahead: int, eroded: Plane, maxima: Plane) -> None:
    """Erode row ``ahead``, if there is one, and keep the maxima along it."""
    if ahead < len(image):
        _erode(image, ahead, eroded[ahead])
        _maximum_along(eroded[ahead], maxima[ahead % _KEPT])


@compiled
def _maximum_along(row: Row, out: Row) -> None:
    """Maximum over each pixel and its two neighbours in a row."""
    for j in range(row.size):
        out[j] = row[j]
    for j in range(row.size - 1):
        out[j] = max(out[j], row[j + 1])
    for j in range(row.size - 1):
        out[j + 1] = max(out[j + 1], row[j])


@compiled
def _dilate(maxima: Plane, i: int, height: int, out: Row) -> None:
    """Maximum over 3 x 3 pixels around those of row ``i``, from the last rows' maxima along them."""
    above, row, below = maxima[max(i - 1, 0) % _KEPT], maxima[i % _KEPT], maxima[min(i + 1, height - 1) % _KEPT]
    for j in range(out.size):
        out[j] = max(row[j], max(above[j], below[j]))


@compiled
def _add_residue(row: Row, dilated: Row, eroded: Row, skeleton: Row) -> int:
    """Add what an opening removes to the skeleton; returns how many pixels are left for the next one."""
    left = 0
    for j in range(row.size):
        residue = max(row[j] - dilated[j], _ZERO)
        skeleton[j] += residue * (_ONE - skeleton[j])
    for j in range(row.size):
        left += eroded[j] > 0
    return left


@compiled
def _multiply_by_rest(row: Row, dilated: Row, product: Row, next_product: Row) -> None:
    for j in range(row.size):
        next_product[j] = product[j] * (_ONE - max(row[j] - dilated[j], _ZERO))


@compiled
def _residue_gradient(row: Row, dilated: Row, product: Row, gradient: Row, of_row: Row, of_dilated: Row) -> None:
    """Split the gradient for the skeleton after the k-th residue: for the image, its opening, and what came before."""
    for j in range(row.size):
        residue = row[j] - dilated[j]
        value = gradient[j] * product[j] if residue > 0 else _ZERO
        of_row[j] = value
        of_dilated[j] = -value
        gradient[j] *= _ONE - max(residue, _ZERO)


@compiled
def _erosion_memory(width: int) -> tuple[Row, Row, Row, Row, Row, Row]:
    """What :func:`_erosion_gradient` writes into on the way, and reads where nothing is."""
    outside, wide = np.full(width, np.inf, np.float32), np.full(width + 4, np.inf, np.float32)
    column_minimum, for_column = np.empty(width, np.float32), np.empty(width, np.float32)
    row_minimum, for_row = np.zeros(width + 2, np.float32), np.zeros(width + 2, np.float32)
    return outside, wide, column_minimum, for_column, row_minimum, for_row


@compiled
def _erosion_gradient(image: Plane, i: int, eroded: Row, given: Row, gradient: Plane, memory: Any, sink: Row) -> None:
    """Add ``given``, the gradient for row ``i`` of an erosion, where its minima are.

    That is in the column or in the row of a pixel; half in each where both hold the same minimum.
    """
    height = len(image)
    outside, wide, column_minimum, for_column, row_minimum, for_row = memory
    above, below = image[i - 1] if i > 0 else outside, image[i + 1] if i + 1 < height else outside
    wide[2:-2] = image[i]
    _share_out(above, below, wide, eroded, given, column_minimum, row_minimum, for_column, for_row)
    _pass_to_rows(
        above,
        image[i],
        column_minimum,
        for_column,
        gradient[i - 1] if i > 0 else sink,
        gradient[i],
        gradient[i + 1] if i + 1 < height else sink,
    )
    _pass_along_row(wide, row_minimum, for_row, gradient[i])


@compiled
def _share_out(
    above: Row,
    below: Row,
    wide: Row,
    eroded: Row,
    given: Row,
    column_minimum: Row,
    row_minimum: Row,
    for_column: Row,
    for_row: Row,
) -> None:
    """Find the minima of each pixel's column and row, and the shares of the gradient that go to them."""
    for j in range(above.size):
        here = wide[j + 2]
        in_column = min(here, min(above[j], below[j]))
        in_row = min(here, min(wide[j + 1], wide[j + 3]))
        share = _HALF if in_row == eroded[j] else _ONE
        share = share if in_column == eroded[j] else _ZERO
        column_minimum[j] = in_column
        row_minimum[j + 1] = in_row
        for_column[j] = given[j] * share
        for_row[j + 1] = given[j] - given[j] * share


@compiled
def _pass_to_rows(above: Row, row: Row, extreme: Row, given: Row, to_above: Row, to_row: Row, to_below: Row) -> None:
    """Add ``given`` to the first of three rows that holds the extreme of the three at that place."""
    for j in range(row.size):
        first = above[j] == extreme[j]
        second = (row[j] == extreme[j]) & (not first)
        to_above[j] += given[j] if first else _ZERO
        to_row[j] += given[j] if second else _ZERO
        to_below[j] += _ZERO if first | second else given[j]


@compiled
def _pass_along_row(wide: Row, extreme: Row, given: Row, to: Row) -> None:
    """Add ``given`` to the first of each three neighbours that holds their extreme.

    ``wide`` is the row between two pixels that are never extreme at either end; ``extreme`` and
    ``given`` have one more entry at either end, where ``given`` is 0.
    """
    for j in range(to.size):
        here, before, twice_before = wide[j + 2], wide[j + 1], wide[j]
        as_first = here == extreme[j + 2]
        as_second = (here == extreme[j + 1]) & (before != extreme[j + 1])
        as_third = (here == extreme[j]) & (before != extreme[j]) & (twice_before != extreme[j])
        value = given[j + 2] if as_first else _ZERO
        value += given[j + 1] if as_second else _ZERO
        value += given[j] if as_third else _ZERO
        to[j] += value
