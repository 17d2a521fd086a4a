"""The gradient of a 3 x 3 convolution's weights by Winograd's minimal filtering, in float32.

The convolution (:mod:`.winograd`) is A^T [(G g G^T) * (B^T d B)] A for a tile d, summed over the channels. So the
gradient of g is G^T [(A y A^T) * (B^T d B)] G for the gradient y of the tile's outputs, summed over the tiles: for each
of the 36 numbers a matrix product, over all tiles, of channels with channels. 36 multiplications take the place of 144.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.lanes import LANES, load, zeros
from nnunet_fganet.compiled.products import HEIGHT, add_products, count_blocks, joined
from nnunet_fganet.compiled.threads import (
    arguments,
    check_array,
    finish_part,
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
    pixels,
    store_down,
    tiles_beside,
    transform_tiles,
)

_TILES = 48  # that a thread works on at a time
_BYTES = 2**26  # at most, where threads have sums of their own
_F = np.float32


def winograd_weight_gradient(rows: torch.Tensor, gradient: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Gradient of the weights of a 3 x 3 convolution with "same" padding; at least :data:`.lanes.LANES` channels each.

    Parameters
    ----------
    rows
        Images, ``(batch * height * width, in_channels)``, contiguous, float32.
    gradient
        Of the outputs, ``(batch * height * width, out_channels)``, contiguous, float32.
    height, width
        Of an image.

    Returns
    -------
    torch.Tensor
        ``(out_channels, in_channels, 3, 3)``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or has too few channels: the loops read where these say.
    """
    channels, out_channels = rows.shape[-1], gradient.shape[-1]
    check_images(rows, height, width, out_channels)
    check_array("gradient", gradient, torch.float32, len(rows), out_channels)
    tiles = len(rows) // (height * width) * count_tiles(height, width)
    panels, blocks = count_chunks(out_channels), count_blocks(channels)
    sums_of_all = (panels, IN**2, blocks, HEIGHT, LANES)
    bands, shares = _division(int(np.prod(sums_of_all)) * rows.element_size(), panels)
    sums = rows.new_zeros(bands, *sums_of_all)
    run_parts(
        _loop(),
        bands * shares,
        *(bands, shares, tiles, height, width, channels, out_channels),
        *(rows.data_ptr(), gradient.data_ptr(), sums.data_ptr()),
    )
    by_panel = joined(sums.sum(0), 2, channels)  # panels, 36, channels, LANES
    transformed = joined(by_panel.permute(1, 2, 0, 3), 2, out_channels)
    matrix = torch.tensor(WEIGHT_TRANSFORM, dtype=torch.float32)
    taps = torch.kron(matrix, matrix).t() @ transformed.reshape(IN**2, -1)
    return taps.view(3, 3, channels, out_channels).permute(3, 2, 0, 1)


def _division(size: int, panels: int) -> tuple[int, int]:
    """How many bands of tiles have sums of their own, of ``size`` bytes, and parts share the panels of each."""
    threads = torch.get_num_threads()
    bands = max(1, min(threads, _BYTES // size))
    return bands, min(panels, -(-threads // bands))


@compiled
def _spread(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Four numbers to six: A of Lavin and Gray, section 4.3."""
    p, q, r, s = a + c, b + d, a + _F(4) * c, _F(2) * (b + _F(4) * d)
    return a, p + q, p - q, r + s, r - s, d


@compiled
def _spread_beside(
    image: Array, top: int, left: int, count: int, panel: int, channels: int, strip: Array, tiles: Array, to: int
) -> None:
    """Spread a panel of the outputs of ``count`` tiles side by side, from row ``top`` and column ``left`` on.

    ``image`` ``(height, width * channels)``; ``strip`` ``(6, at least 4 * count * LANES)``, overwritten; ``tiles``
    ``(36, tiles * LANES)``, written from tile ``to`` on.
    """
    channel = chunk_start(panel, channels)
    width = image.shape[1] // channels
    nothing = (zeros(), zeros(), zeros(), zeros(), zeros(), zeros())
    for column in range(OUT * count):
        x = (left + column) * channels + channel
        six = nothing
        if left + column < width:
            six = _spread(
                pixels(image, top, x), pixels(image, top + 1, x), pixels(image, top + 2, x), pixels(image, top + 3, x)
            )
        store_down(strip, 0, column * LANES, six)
    for i in range(IN):
        for tile in range(count):
            x = OUT * tile * LANES
            six = _spread(
                load(strip, i, x),
                load(strip, i, x + LANES),
                load(strip, i, x + 2 * LANES),
                load(strip, i, x + 3 * LANES),
            )
            store_down(tiles, IN * i, (to + tile) * LANES, six)


@compiled
def _spread_tiles(images: Array, first: int, last: int, panel: int, channels: int, strip: Array, tiles: Array) -> None:
    """Spread a panel of the outputs of tiles ``first`` to ``last`` of all images, see :func:`_spread_beside`."""
    tile = first
    while tile < last:
        image, top, left, beside = tiles_beside(tile, last, images, channels)
        _spread_beside(images[image], top, left, beside, panel, channels, strip, tiles, tile - first)
        tile += beside


@cache
def _loop() -> Any:
    """Compile the loop over bands of tiles, and over shares of their panels."""

    @loop("float32")
    def add_up(data: Any) -> None:
        a = arguments(data, 10)
        bands, shares, count, height, width, channels, out_channels = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        across, strips = -(-width // OUT), -(-height // OUT)
        images, all_panels = count // (across * strips), count_chunks(out_channels)
        rows_of_sums = count_blocks(channels) * HEIGHT
        pixels_in = carray(pointer(a[7]), (images, height, width * channels), _F)
        gradient = carray(pointer(a[8]), (images, height, width * out_channels), _F)
        sums = carray(pointer(a[9]), (bands * all_panels * IN * IN * rows_of_sums, LANES), _F)
        longest = min(_TILES, across)
        tiles, spread = np.empty((IN * IN, _TILES * channels), _F), np.empty((IN * IN, _TILES * LANES), _F)
        lines, panels = tiles.reshape(IN * IN * _TILES, channels), spread.reshape(IN * IN * _TILES, LANES)
        strip = np.empty((IN, (OUT * longest + IN - OUT) * channels), _F)
        narrow_strip = np.empty((IN, OUT * longest * LANES), _F)
        part = next_part(data)
        while part < parts(data):
            band, share = part // shares, part % shares
            end = (band + 1) * count // bands
            for first in range(band * count // bands, end, _TILES):
                last = min(first + _TILES, end)
                transform_tiles(pixels_in, first, last, channels, strip, tiles)
                for panel in range(share * all_panels // shares, (share + 1) * all_panels // shares):
                    _spread_tiles(gradient, first, last, panel, out_channels, narrow_strip, spread)
                    for plane in range(IN * IN):
                        at = ((band * all_panels + panel) * IN * IN + plane) * rows_of_sums
                        add_products(lines, plane * _TILES, last - first, panels, plane * _TILES, sums, at)
            finish_part(data)
            part = next_part(data)

    return add_up
