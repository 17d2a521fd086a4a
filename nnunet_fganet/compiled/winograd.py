"""3 x 3 convolutions by Winograd's minimal filtering F(4 x 4, 3 x 3), in float32 (Lavin and Gray, CVPR 2016).

Sixteen outputs of a channel come from 36 multiplications instead of 144. An image is cut into tiles of
6 x 6 pixels that overlap by two; each of the 36 numbers of a transformed tile meets weights of its own,
in one matrix product over all tiles and channels. Errors are some 1e-5 of the largest value: ten times
those of a plain convolution in float32, and a hundredth of those in bfloat16.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.threads import arguments, float_arguments, next_part, parts, pointer, run_parts

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
    """Convolve with "same" padding, then LeakyReLU.

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
    """
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


# Numba makes something of a tuple or a list of arrays at every call, so that rows are named one by one.


@compiled
def _transform(
    a: Array, b: Array, c: Array, d: Array, e: Array, f: Array,
    first: Array, second: Array, third: Array, fourth: Array, fifth: Array, sixth: Array,
) -> None:  # fmt: skip
    """Six rows to six: B^T of Lavin and Gray, section 4.3."""
    _combine_three(first, a, c, e)
    _combine(second, b, c, d, e, _F(-4), _F(-4), _F(1))
    _combine(third, b, c, d, e, _F(4), _F(-4), _F(-1))
    _combine(fourth, b, c, d, e, _F(-2), _F(-1), _F(2))
    _combine(fifth, b, c, d, e, _F(2), _F(-1), _F(-2))
    _combine_three(sixth, b, d, f)


@compiled
def _combine_three(out: Array, a: Array, b: Array, c: Array) -> None:
    for i in range(out.size):
        out[i] = _F(4) * a[i] - _F(5) * b[i] + c[i]


@compiled
def _combine(out: Array, a: Array, b: Array, c: Array, d: Array, wa: Any, wb: Any, wc: Any) -> None:
    for i in range(out.size):
        out[i] = wa * a[i] + wb * b[i] + (wc * c[i] + d[i])


@compiled
def _transform_back(
    a: Array, b: Array, c: Array, d: Array, e: Array, f: Array, first: Array, second: Array, third: Array, fourth: Array
) -> None:
    """Six rows to four: A^T of Lavin and Gray, section 4.3."""
    for i in range(first.size):
        first[i] = a[i] + (b[i] + c[i]) + (d[i] + e[i])
    for i in range(first.size):
        second[i] = (b[i] - c[i]) + _F(2) * (d[i] - e[i])
    for i in range(first.size):
        third[i] = (b[i] + c[i]) + _F(4) * (d[i] + e[i])
    for i in range(first.size):
        fourth[i] = (b[i] - c[i]) + _F(8) * (d[i] - e[i]) + f[i]


@compiled
def _strip_to_tiles(image: Array, top: int, strip: Array, tiles: Array, first: int) -> None:
    """Transform a row of tiles whose uppermost pixels are those of row ``top``.

    ``image`` ``(height, width * channels)``; ``strip`` ``(7, columns of all tiles, channels)`` with zeros where no
    pixel is, and in its last row; ``tiles`` ``(36, tiles, channels)``, written from number ``first`` on.
    """
    height, length = image.shape
    columns, channels = strip.shape[1:]
    flat = strip.reshape(_IN + 1, columns * channels)
    start, end = channels, channels + length  # left of the first pixel is zero
    zeros = flat[_IN, :length]
    _transform(
        image[top] if top >= 0 else zeros,
        image[top + 1],
        image[top + 2] if top + 2 < height else zeros,
        image[top + 3] if top + 3 < height else zeros,
        image[top + 4] if top + 4 < height else zeros,
        image[top + 5] if top + 5 < height else zeros,
        flat[0, start:end], flat[1, start:end], flat[2, start:end],
        flat[3, start:end], flat[4, start:end], flat[5, start:end],
    )  # fmt: skip
    for i in range(_IN):
        row, n = strip[i], _IN * i
        for x in range(0, columns - 2, _OUT):
            t = first + x // _OUT
            _transform(
                row[x], row[x + 1], row[x + 2], row[x + 3], row[x + 4], row[x + 5],
                tiles[n, t], tiles[n + 1, t], tiles[n + 2, t], tiles[n + 3, t], tiles[n + 4, t], tiles[n + 5, t],
            )  # fmt: skip


@compiled
def _strip_from_tiles(
    tiles: Array, first: int, strip: Array, image: Array, top: int, bias: Array, slope: np.float32
) -> None:
    """Transform a row of tiles back, add the bias, apply LeakyReLU.

    ``strip``: ``(7, columns of all tiles, channels)``, overwritten; the rest as for :func:`_strip_to_tiles`.
    """
    height, length = image.shape
    columns, channels = strip.shape[1:]
    for i in range(_IN):
        row, n = strip[i], _IN * i
        for x in range(0, columns, _OUT):
            t = first + x // _OUT
            _transform_back(
                tiles[n, t], tiles[n + 1, t], tiles[n + 2, t], tiles[n + 3, t], tiles[n + 4, t], tiles[n + 5, t],
                row[x], row[x + 1], row[x + 2], row[x + 3],
            )  # fmt: skip
    flat = strip.reshape(_IN + 1, columns * channels)
    unused = flat[_IN, :length]  # where a tile reaches below the image
    _transform_back(
        flat[0, :length], flat[1, :length], flat[2, :length], flat[3, :length], flat[4, :length], flat[5, :length],
        image[top],
        image[top + 1] if top + 1 < height else unused,
        image[top + 2] if top + 2 < height else unused,
        image[top + 3] if top + 3 < height else unused,
    )  # fmt: skip
    for i in range(top, min(top + _OUT, height)):
        for start in range(0, length, channels):
            _activate(image[i, start : start + channels], bias, slope)


@compiled
def _activate(pixel: Array, bias: Array, slope: np.float32) -> None:
    for c in range(bias.size):
        value = pixel[c] + bias[c]
        pixel[c] = value if value > 0 else slope * value


@cache
def _to_tiles_loop() -> Any:
    """Compile the loop over rows of tiles: image to transformed tiles."""

    @loop("float32")
    def to_tiles(data: Any) -> None:
        a = arguments(data, 8)
        images, height, width, first, block, channels = a[0], a[1], a[2], a[3], a[4], a[5]
        across, down = -(-width // _OUT), -(-height // _OUT)
        pixels = carray(pointer(a[6]), (images, height, width * channels), _F)
        tiles = carray(pointer(a[7]), (_IN * _IN, block * across, channels), _F)
        strip = np.zeros((_IN + 1, _OUT * across + 2, channels), _F)
        part = next_part(data)
        while part < parts(data):
            image, top = (first + part) // down, (first + part) % down * _OUT
            _strip_to_tiles(pixels[image], top - 1, strip, tiles, part * across)
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
        tiles = carray(pointer(a[6]), (_IN * _IN, block * across, channels), _F)
        pixels = carray(pointer(a[7]), (images, height, width * channels), _F)
        bias = carray(pointer(a[8]), (channels,), _F)
        slope = _F(float_arguments(data, 10)[9])
        strip = np.empty((_IN + 1, _OUT * across, channels), _F)
        part = next_part(data)
        while part < parts(data):
            image, top = (first + part) // down, (first + part) % down * _OUT
            _strip_from_tiles(tiles, part * across, strip, pixels[image], top, bias, slope)
            part = next_part(data)

    return from_tiles
