"""3 x 3 convolutions by Winograd's minimal filtering F(4 x 4, 3 x 3), in float32 (Lavin and Gray, CVPR 2016).

Sixteen outputs of a channel come from 36 multiplications instead of 144. An image is cut into tiles of
6 x 6 pixels that overlap by two; each of the 36 numbers of a transformed tile meets weights of its own,
in one matrix product over all tiles and channels. Errors are some 1e-5 of the largest value: ten times
those of a plain convolution in float32, and a hundredth of those in bfloat16. A value that is not finite makes NaN
of all the tiles that hold it.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.lanes import LANES, leaky_relu, load, store, zeros
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

_OUT = 4  # rows and columns of a tile's outputs
_IN = 6  # and of the pixels that they come from
# Transformed tiles that are worked on at a time, those of input and output together, stay in the cache;
# fewer than _FEWEST_TILES would read the weights too often.
_BLOCK_BYTES, _FEWEST_TILES = 4e6, 128
# Matrix G of Lavin and Gray, section 4.3: a transformed weight is G g G^T.
_WEIGHT_TRANSFORM = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
Array = NDArray[Any]
_F = np.float32


def count_tiles(height: int, width: int) -> int:
    """How many tiles an image is cut into."""
    return -(-height // _OUT) * -(-width // _OUT)


def transformed_weight(weight: torch.Tensor) -> torch.Tensor:
    """``(out_channels, in_channels, 3, 3)`` to ``(36, in_channels, out_channels)``, float32."""
    matrix = torch.tensor(_WEIGHT_TRANSFORM, dtype=torch.float64)
    transformed = torch.einsum("ai,bj,ocij->abco", matrix, matrix, weight.double())
    return transformed.flatten(0, 1).float().contiguous()


def winograd_conv2d(
    rows: torch.Tensor, height: int, width: int, weight: torch.Tensor, bias: torch.Tensor, slope: float
) -> torch.Tensor:
    """Convolve with "same" padding, then LeakyReLU; at least :data:`.lanes.LANES` channels in and out.

    Parameters
    ----------
    rows
        ``(batch * height * width, in_channels)``, contiguous, float32.
    height, width
        Of an image.
    weight
        Of :func:`transformed_weight`.
    bias
        ``(out_channels,)``, float32.
    slope
        Of LeakyReLU: 0 is ReLU, 1 leaves the values as they are.

    Returns
    -------
    torch.Tensor
        ``(batch * height * width, out_channels)``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or has too few channels: the loops read where these say.
    """
    _check(rows, height, width, weight, bias)
    _, channels, out_channels = weight.shape
    out = rows.new_empty(len(rows), out_channels)
    tiles_across, tiles_down = -(-width // _OUT), -(-height // _OUT)
    images = len(rows) // (height * width)
    strips = images * tiles_down  # rows of tiles
    at_once = max(_FEWEST_TILES, int(_BLOCK_BYTES / (rows.element_size() * _IN**2 * (channels + out_channels))))
    block = min(strips, -(-at_once // tiles_across))
    before = rows.new_empty(_IN**2, block * tiles_across, channels)
    after = rows.new_empty(_IN**2, block * tiles_across, out_channels)
    for first in range(0, strips, block):
        sizes = (images, height, width, first, block)
        count = min(block, strips - first)
        run_parts(_to_tiles_loop(), count, *sizes, channels, rows.data_ptr(), before.data_ptr())
        torch.bmm(before, weight, out=after)
        run_parts(
            _from_tiles_loop(),
            count,
            *sizes,
            out_channels,
            after.data_ptr(),
            out.data_ptr(),
            bias.data_ptr(),
            float(slope),
        )
    return out


def _check(rows: torch.Tensor, height: int, width: int, weight: torch.Tensor, bias: torch.Tensor) -> None:
    _, channels, out_channels = weight.shape
    if min(channels, out_channels) < LANES:
        raise ValueError(f"{channels} channels in and {out_channels} out, where at least {LANES} of each are needed")
    check_array("weight", weight, torch.float32, _IN**2, channels, out_channels)
    check_array("rows", rows, torch.float32, len(rows), channels)
    check_array("bias", bias, torch.float32, out_channels)
    if len(rows) == 0 or min(height, width) < 1 or len(rows) % (height * width):
        raise ValueError(f"{len(rows)} rows are no images of {height} x {width} pixels")


@compiled
def _transform(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Six numbers to six: B^T of Lavin and Gray, section 4.3."""
    p, q, r, s = e - _F(4) * c, d - _F(4) * b, e - c, _F(2) * (d - b)
    return _F(4) * a - _F(5) * c + e, p + q, p - q, r + s, r - s, _F(4) * b - _F(5) * d + f


@compiled
def _transform_back(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Six numbers to four: A^T of Lavin and Gray, section 4.3."""
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + _F(2) * s, p + _F(4) * r, q + _F(8) * s + f


@compiled
def _chunks(length: int) -> int:
    """How many times :data:`.lanes.LANES` numbers a row of numbers takes."""
    return -(-length // LANES)


@compiled
def _start(chunk: int, length: int) -> int:
    """Where a chunk begins; the last one may begin inside the one before it, and compute some numbers again."""
    return min(chunk * LANES, length - LANES)


@compiled
def _pixels(image: Array, y: int, x: int) -> Any:
    return load(image, y, x) if 0 <= y < len(image) else zeros()


@compiled
def _down(array: Array, row: int, x: int) -> Any:
    """What six rows hold at one place."""
    return (
        load(array, row, x), load(array, row + 1, x), load(array, row + 2, x),
        load(array, row + 3, x), load(array, row + 4, x), load(array, row + 5, x),
    )  # fmt: skip


@compiled
def _store_down(array: Array, row: int, x: int, six: Any) -> None:
    a, b, c, d, e, f = six
    store(array, row, x, a)
    store(array, row + 1, x, b)
    store(array, row + 2, x, c)
    store(array, row + 3, x, d)
    store(array, row + 4, x, e)
    store(array, row + 5, x, f)


@compiled
def _along(array: Array, row: int, x: int, step: int) -> Any:
    """What a row holds at six places, ``step`` apart."""
    return (
        load(array, row, x), load(array, row, x + step), load(array, row, x + 2 * step),
        load(array, row, x + 3 * step), load(array, row, x + 4 * step), load(array, row, x + 5 * step),
    )  # fmt: skip


@compiled
def _strip_to_tiles(image: Array, top: int, channels: int, strip: Array, tiles: Array, first: int) -> None:
    """Transform a row of tiles whose uppermost pixels are those of row ``top``.

    ``image`` ``(height, width * channels)``; ``strip`` ``(6, columns of all tiles * channels)`` with zeros where no
    pixel is; ``tiles`` ``(36, tiles * channels)``, written from tile ``first`` on.
    """
    length = image.shape[1]
    for chunk in range(_chunks(length)):
        x = _start(chunk, length)
        column = _transform(
            _pixels(image, top, x), _pixels(image, top + 1, x), _pixels(image, top + 2, x),
            _pixels(image, top + 3, x), _pixels(image, top + 4, x), _pixels(image, top + 5, x),
        )  # fmt: skip
        _store_down(strip, 0, channels + x, column)  # left of the first pixel is zero
    for i in range(_IN):
        for tile in range((strip.shape[1] // channels - 2) // _OUT):
            for chunk in range(_chunks(channels)):
                c = _start(chunk, channels)
                row = _along(strip, i, _OUT * tile * channels + c, channels)
                _store_down(tiles, _IN * i, (first + tile) * channels + c, _transform(*row))


@compiled
def _strip_from_tiles(
    tiles: Array, first: int, strip: Array, image: Array, top: int, bias: Array, slope: np.float32
) -> None:
    """Transform a row of tiles back, add the bias, apply LeakyReLU.

    ``strip``: ``(6, columns of all tiles * channels)``, overwritten; ``bias``: ``(1, channels)``; the rest as for
    :func:`_strip_to_tiles`.
    """
    channels = bias.shape[1]
    for i in range(_IN):
        for tile in range(strip.shape[1] // channels // _OUT):
            for chunk in range(_chunks(channels)):
                c = _start(chunk, channels)
                p, q, r, s = _transform_back(*_down(tiles, _IN * i, (first + tile) * channels + c))
                x = _OUT * tile * channels + c
                store(strip, i, x, p)
                store(strip, i, x + channels, q)
                store(strip, i, x + 2 * channels, r)
                store(strip, i, x + 3 * channels, s)
    for pixel in range(0, image.shape[1], channels):
        for chunk in range(_chunks(channels)):
            c = _start(chunk, channels)
            x, shift = pixel + c, load(bias, 0, c)
            p, q, r, s = _transform_back(*_down(strip, 0, x))
            _store_pixels(image, top, x, leaky_relu(p + shift, slope))
            _store_pixels(image, top + 1, x, leaky_relu(q + shift, slope))
            _store_pixels(image, top + 2, x, leaky_relu(r + shift, slope))
            _store_pixels(image, top + 3, x, leaky_relu(s + shift, slope))


@compiled
def _store_pixels(image: Array, y: int, x: int, numbers: Any) -> None:
    if y < len(image):
        store(image, y, x, numbers)


@cache
def _to_tiles_loop() -> Any:
    """Compile the loop over rows of tiles: image to transformed tiles."""

    @loop("float32")
    def to_tiles(data: Any) -> None:
        a = arguments(data, 8)
        images, height, width, first, block, channels = a[0], a[1], a[2], a[3], a[4], a[5]
        across, down = -(-width // _OUT), -(-height // _OUT)
        pixels = carray(pointer(a[6]), (images, height, width * channels), _F)
        tiles = carray(pointer(a[7]), (_IN * _IN, block * across * channels), _F)
        strip = np.zeros((_IN, (_OUT * across + 2) * channels), _F)
        part = next_part(data)
        while part < parts(data):
            image, top = (first + part) // down, (first + part) % down * _OUT
            _strip_to_tiles(pixels[image], top - 1, channels, strip, tiles, part * across)
            finish_part(data)
            part = next_part(data)

    return to_tiles


@cache
def _from_tiles_loop() -> Any:
    """Compile the loop over rows of tiles: transformed tiles to image."""

    @loop("float32")
    def from_tiles(data: Any) -> None:
        a = arguments(data, 10)
        images, height, width, first, block, channels = a[0], a[1], a[2], a[3], a[4], a[5]
        across, down = -(-width // _OUT), -(-height // _OUT)
        tiles = carray(pointer(a[6]), (_IN * _IN, block * across * channels), _F)
        pixels = carray(pointer(a[7]), (images, height, width * channels), _F)
        bias = carray(pointer(a[8]), (1, channels), _F)
        slope = _F(float_arguments(data, 10)[9])
        strip = np.empty((_IN, _OUT * across * channels), _F)
        part = next_part(data)
        while part < parts(data):
            image, top = (first + part) // down, (first + part) % down * _OUT
            _strip_from_tiles(tiles, part * across, strip, pixels[image], top, bias, slope)
            finish_part(data)
            part = next_part(data)

    return from_tiles
