"""3 x 3 convolutions by Winograd's minimal filtering F(4 x 4, 3 x 3), in float32 (Lavin and Gray, CVPR 2016).

Sixteen outputs of a channel come from 36 multiplications instead of 144. An image is cut into tiles of
6 x 6 pixels that overlap by two; each of the 36 numbers of a transformed tile meets weights of its own,
in one matrix product over all tiles and channels. Errors are some 1e-5 of the largest value: ten times
those of a plain convolution in float32, and a hundredth of those in bfloat16. A value that is not finite makes NaN
of all the tiles that hold it.

Each thread transforms, multiplies and transforms back tiles of its own, so that they stay in its cache: what another
core has just written takes several times as long to read, above all where the two have no cache in common.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.lanes import LANES, leaky_relu, load, store, zeros
from nnunet_fganet.compiled.products import HEIGHT, multiply, panels
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
# Tiles that a thread works on at a time; more where weights, which are read anew each time, do not stay in the cache.
_FEW_TILES, _MANY_TILES, _CACHED_BYTES = 48, 96, 16e6
_PARTS_A_THREAD = 2  # at least, so that no thread waits long for another
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
    """``(out_channels, in_channels, 3, 3)`` to ``(panels, 36, in_channels, LANES)``, float32: see :func:`.panels`."""
    out_channels, channels = weight.shape[:2]
    matrix = torch.tensor(_WEIGHT_TRANSFORM, dtype=torch.float32)
    taps = weight.float().permute(2, 3, 1, 0).reshape(9, -1)
    return panels((torch.kron(matrix, matrix) @ taps).view(_IN**2, channels, out_channels))


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
    out = rows.new_empty(len(rows), len(bias))
    tiles = len(rows) // (height * width) * count_tiles(height, width)
    groups, at_once, shares = _division(tiles, weight)
    run_parts(
        _loop(),
        groups * shares,
        *(shares, tiles, at_once, height, width, rows.shape[1], len(bias)),
        *(rows.data_ptr(), weight.data_ptr(), bias.data_ptr(), out.data_ptr()),
        float(slope),
    )
    return out


def _division(tiles: int, weight: torch.Tensor) -> tuple[int, int, int]:
    """Groups of tiles, tiles in each, and parts that share the panels of a group between them."""
    is_cached = weight.numel() * weight.element_size() <= _CACHED_BYTES
    groups = -(-tiles // (_FEW_TILES if is_cached else _MANY_TILES))
    wanted = _PARTS_A_THREAD * torch.get_num_threads()
    return groups, -(-tiles // groups), min(len(weight), -(-wanted // groups))


def _check(rows: torch.Tensor, height: int, width: int, weight: torch.Tensor, bias: torch.Tensor) -> None:
    channels, out_channels = rows.shape[-1], len(bias)
    if min(channels, out_channels) < LANES:
        raise ValueError(f"{channels} channels in and {out_channels} out, where at least {LANES} of each are needed")
    check_array("weight", weight, torch.float32, -(-out_channels // LANES), _IN**2, channels, LANES)
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
def _to_tiles(
    image: Array, top: int, left: int, count: int, channels: int, strip: Array, tiles: Array, to: int
) -> None:
    """Transform ``count`` tiles side by side, the first of which begins at row ``top`` and column ``left``.

    ``image`` ``(height, width * channels)``; ``strip`` ``(6, at least (4 * count + 2) * channels)``, overwritten;
    ``tiles`` ``(36, tiles * channels)``, written from tile ``to`` on.
    """
    begin, end = max(left, 0), min(left + _OUT * count + _IN - _OUT, image.shape[1] // channels)
    strip[:, : (begin - left) * channels] = 0
    strip[:, (end - left) * channels : (_OUT * count + _IN - _OUT) * channels] = 0
    length = (end - begin) * channels
    for chunk in range(_chunks(length)):
        x = begin * channels + _start(chunk, length)
        column = _transform(
            _pixels(image, top, x), _pixels(image, top + 1, x), _pixels(image, top + 2, x),
            _pixels(image, top + 3, x), _pixels(image, top + 4, x), _pixels(image, top + 5, x),
        )  # fmt: skip
        _store_down(strip, 0, x - left * channels, column)
    for i in range(_IN):
        for tile in range(count):
            for chunk in range(_chunks(channels)):
                c = _start(chunk, channels)
                row = _along(strip, i, _OUT * tile * channels + c, channels)
                _store_down(tiles, _IN * i, (to + tile) * channels + c, _transform(*row))


@compiled
def _from_tiles(
    tiles: Array,
    first: int,
    count: int,
    strip: Array,
    image: Array,
    top: int,
    left: int,
    panel: int,
    bias: Array,
    slope: Any,
) -> None:
    """Transform a panel of tiles side by side back, from tile ``first`` on, add the bias, apply LeakyReLU.

    ``tiles`` ``(36, tiles * LANES)``; ``strip`` ``(6, at least 4 * count * LANES)``, overwritten; ``image`` ``(height,
    width * channels)``, of which the channels of the panel are written; ``bias`` ``(1, channels)``.
    """
    for i in range(_IN):
        for tile in range(count):
            p, q, r, s = _transform_back(*_down(tiles, _IN * i, (first + tile) * LANES))
            x = _OUT * tile * LANES
            store(strip, i, x, p)
            store(strip, i, x + LANES, q)
            store(strip, i, x + 2 * LANES, r)
            store(strip, i, x + 3 * LANES, s)
    channels = bias.shape[1]
    c = _start(panel, channels)
    shift = load(bias, 0, c)
    for column in range(min(_OUT * count, image.shape[1] // channels - left)):
        x = (left + column) * channels + c
        p, q, r, s = _transform_back(*_down(strip, 0, column * LANES))
        _store_pixels(image, top, x, leaky_relu(p + shift, slope))
        _store_pixels(image, top + 1, x, leaky_relu(q + shift, slope))
        _store_pixels(image, top + 2, x, leaky_relu(r + shift, slope))
        _store_pixels(image, top + 3, x, leaky_relu(s + shift, slope))


@compiled
def _store_pixels(image: Array, y: int, x: int, numbers: Any) -> None:
    if y < len(image):
        store(image, y, x, numbers)


@compiled
def _place(tile: int, last: int, images: Array, channels: int) -> Any:
    """Image, row and column of a tile, and how many tiles up to ``last`` stand side by side from it on.

    ``images`` ``(images, height, width * channels)``.
    """
    down, across = -(-images.shape[1] // _OUT), -(-(images.shape[2] // channels) // _OUT)
    strip, column = tile // across, tile % across
    return strip // down, strip % down * _OUT, column * _OUT, min(across - column, last - tile)


@compiled
def _transform_group(images: Array, first: int, last: int, channels: int, strip: Array, tiles: Array) -> None:
    """Transform tiles ``first`` to ``last`` of all images, see :func:`_to_tiles`."""
    tile = first
    while tile < last:
        image, top, left, beside = _place(tile, last, images, channels)
        _to_tiles(images[image], top - 1, left - 1, beside, channels, strip, tiles, tile - first)
        tile += beside


@compiled
def _transform_group_back(
    tiles: Array, first: int, last: int, strip: Array, images: Array, panel: int, bias: Array, slope: Any
) -> None:
    """Transform a panel of tiles ``first`` to ``last`` back, see :func:`_from_tiles`."""
    tile = first
    while tile < last:
        image, top, left, beside = _place(tile, last, images, bias.shape[1])
        _from_tiles(tiles, tile - first, beside, strip, images[image], top, left, panel, bias, slope)
        tile += beside


@cache
def _loop() -> Any:
    """Compile the loop over groups of tiles, and over shares of their panels where there are few groups."""

    @loop("float32")
    def convolve(data: Any) -> None:
        a = arguments(data, 12)
        shares, count, at_once, height, width, channels, out_channels = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        across, down = -(-width // _OUT), -(-height // _OUT)
        images, all_panels = count // (across * down), _chunks(out_channels)
        pixels = carray(pointer(a[7]), (images, height, width * channels), _F)
        weight = carray(pointer(a[8]), (all_panels * _IN * _IN * channels, LANES), _F)
        bias = carray(pointer(a[9]), (1, out_channels), _F)
        out = carray(pointer(a[10]), (images, height, width * out_channels), _F)
        slope = _F(float_arguments(data, 12)[11])
        rows, longest = max(at_once, HEIGHT), min(at_once, across)
        before = np.empty((_IN * _IN, rows * channels), _F)
        after = np.empty((_IN * _IN, rows * LANES), _F)
        lines, products = before.reshape(_IN * _IN * rows, channels), after.reshape(_IN * _IN * rows, LANES)
        to_strip = np.empty((_IN, (_OUT * longest + _IN - _OUT) * channels), _F)
        from_strip = np.empty((_IN, _OUT * longest * LANES), _F)
        held = -1  # the first tile of the group that lies transformed in ``before``
        part = next_part(data)
        while part < parts(data):
            first = min(part // shares * at_once, count - at_once)  # the last group may begin inside the one before it
            if first != held:
                _transform_group(pixels, first, first + at_once, channels, to_strip, before)
                held = first
            share = part % shares
            for panel in range(share * all_panels // shares, (share + 1) * all_panels // shares):
                for plane in range(_IN * _IN):
                    multiply(lines, plane * rows, rows, weight, (panel * _IN * _IN + plane) * channels, products)
                _transform_group_back(after, first, first + at_once, from_strip, out, panel, bias, slope)
            finish_part(data)
            part = next_part(data)

    return convolve
