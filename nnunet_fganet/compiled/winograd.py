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

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.lanes import LANES, leaky_relu, load, store
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
from nnunet_fganet.compiled.tiles import (
    IN,
    OUT,
    WEIGHT_TRANSFORM,
    Array,
    check_images,
    chunk_start,
    count_chunks,
    count_tiles,
    down,
    tiles_beside,
    transform_tiles,
)

# Tiles that a thread works on at a time; more where weights, which are read anew each time, do not stay in the cache.
_FEW_TILES, _MANY_TILES, _CACHED_BYTES = 48, 96, 16e6
_PARTS_A_THREAD = 2  # at least, so that no thread waits long for another
_F = np.float32


def transformed_weight(weight: torch.Tensor) -> torch.Tensor:
    """``(out_channels, in_channels, 3, 3)`` to ``(panels, 36, in_channels, LANES)``, float32: see :func:`.panels`."""
    out_channels, channels = weight.shape[:2]
    matrix = torch.tensor(WEIGHT_TRANSFORM, dtype=torch.float32)
    taps = weight.float().permute(2, 3, 1, 0).reshape(9, -1)
    return panels((torch.kron(matrix, matrix) @ taps).view(IN**2, channels, out_channels))


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
    check_images(rows, height, width, len(bias))
    check_array("weight", weight, torch.float32, -(-len(bias) // LANES), IN**2, rows.shape[1], LANES)
    check_array("bias", bias, torch.float32, len(bias))
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


@compiled
def _transform_back(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Six numbers to four: A^T of Lavin and Gray, section 4.3."""
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + _F(2) * s, p + _F(4) * r, q + _F(8) * s + f


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
    for i in range(IN):
        for tile in range(count):
            p, q, r, s = _transform_back(*down(tiles, IN * i, (first + tile) * LANES))
            x = OUT * tile * LANES
            store(strip, i, x, p)
            store(strip, i, x + LANES, q)
            store(strip, i, x + 2 * LANES, r)
            store(strip, i, x + 3 * LANES, s)
    channels = bias.shape[1]
    c = chunk_start(panel, channels)
    shift = load(bias, 0, c)
    for column in range(min(OUT * count, image.shape[1] // channels - left)):
        x = (left + column) * channels + c
        p, q, r, s = _transform_back(*down(strip, 0, column * LANES))
        _store_pixels(image, top, x, leaky_relu(p + shift, slope))
        _store_pixels(image, top + 1, x, leaky_relu(q + shift, slope))
        _store_pixels(image, top + 2, x, leaky_relu(r + shift, slope))
        _store_pixels(image, top + 3, x, leaky_relu(s + shift, slope))


@compiled
def _store_pixels(image: Array, y: int, x: int, numbers: Any) -> None:
    if y < len(image):
        store(image, y, x, numbers)


@compiled
def _transform_group_back(
    tiles: Array, first: int, last: int, strip: Array, images: Array, panel: int, bias: Array, slope: Any
) -> None:
    """Transform a panel of tiles ``first`` to ``last`` back, see :func:`_from_tiles`."""
    tile = first
    while tile < last:
        image, top, left, beside = tiles_beside(tile, last, images, bias.shape[1])
        _from_tiles(tiles, tile - first, beside, strip, images[image], top, left, panel, bias, slope)
        tile += beside


@cache
def _loop() -> Any:
    """Compile the loop over groups of tiles, and over shares of their panels where there are few groups."""

    @loop("float32")
    def convolve(data: Any) -> None:
        a = arguments(data, 12)
        shares, count, at_once, height, width, channels, out_channels = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        across, down = -(-width // OUT), -(-height // OUT)
        images, all_panels = count // (across * down), count_chunks(out_channels)
        pixels = carray(pointer(a[7]), (images, height, width * channels), _F)
        weight = carray(pointer(a[8]), (all_panels * IN * IN * channels, LANES), _F)
        bias = carray(pointer(a[9]), (1, out_channels), _F)
        out = carray(pointer(a[10]), (images, height, width * out_channels), _F)
        slope = _F(float_arguments(data, 12)[11])
        rows, longest = max(at_once, HEIGHT), min(at_once, across)
        before = np.empty((IN * IN, rows * channels), _F)
        after = np.empty((IN * IN, rows * LANES), _F)
        lines, products = before.reshape(IN * IN * rows, channels), after.reshape(IN * IN * rows, LANES)
        to_strip = np.empty((IN, (OUT * longest + IN - OUT) * channels), _F)
        from_strip = np.empty((IN, OUT * longest * LANES), _F)
        held = -1  # the first tile of the group that lies transformed in ``before``
        part = next_part(data)
        while part < parts(data):
            first = min(part // shares * at_once, count - at_once)  # the last group may begin inside the one before it
            if first != held:
                transform_tiles(pixels, first, first + at_once, channels, to_strip, before)
                held = first
            share = part % shares
            for panel in range(share * all_panels // shares, (share + 1) * all_panels // shares):
                for plane in range(IN * IN):
                    multiply(lines, plane * rows, rows, weight, (panel * IN * IN + plane) * channels, products)
                _transform_group_back(after, first, first + at_once, from_strip, out, panel, bias, slope)
            finish_part(data)
            part = next_part(data)

    return convolve
