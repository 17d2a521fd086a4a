"""Images in the tiles of Winograd's minimal filtering F(4 x 4, 3 x 3): 6 x 6 pixels that overlap by two.

What the convolution (:mod:`.winograd`) and the gradient of its weights (:mod:`.winograd_gradient`) have in common:
sixteen numbers at a time, which lie side by side (channels last).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled
from nnunet_fganet.compiled.lanes import LANES, load, store, zeros
from nnunet_fganet.compiled.threads import check_array

OUT = 4  # rows and columns of a tile's outputs
IN = 6  # and of the pixels that they come from
# Matrix G of Lavin and Gray, section 4.3: a transformed weight is G g G^T.
WEIGHT_TRANSFORM = (
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
    return -(-height // OUT) * -(-width // OUT)


def check_images(rows: torch.Tensor, height: int, width: int, out_channels: int) -> None:
    """Refuse what the loops would read outside of.

    Raises
    ------
    ValueError
        ``rows`` is not ``(batch * height * width, in_channels)``, contiguous, float32, or there are fewer than
        :data:`.lanes.LANES` channels in or out.
    """
    channels = rows.shape[-1]
    if min(channels, out_channels) < LANES:
        raise ValueError(f"{channels} channels in and {out_channels} out, where at least {LANES} of each are needed")
    check_array("rows", rows, torch.float32, len(rows), channels)
    if len(rows) == 0 or min(height, width) < 1 or len(rows) % (height * width):
        raise ValueError(f"{len(rows)} rows are no images of {height} x {width} pixels")


@compiled
def _transform(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Six numbers to six: B^T of Lavin and Gray, section 4.3."""
    p, q, r, s = e - _F(4) * c, d - _F(4) * b, e - c, _F(2) * (d - b)
    return _F(4) * a - _F(5) * c + e, p + q, p - q, r + s, r - s, _F(4) * b - _F(5) * d + f


@compiled
def count_chunks(length: int) -> int:
    """How many times :data:`.lanes.LANES` numbers a row of numbers takes."""
    return -(-length // LANES)


@compiled
def chunk_start(chunk: int, length: int) -> int:
    """Where a chunk begins; the last one may begin inside the one before it, and compute some numbers again."""
    return min(chunk * LANES, length - LANES)


@compiled
def pixels(image: Array, y: int, x: int) -> Any:
    """What an image holds at one place; zeros above and below it."""
    return load(image, y, x) if 0 <= y < len(image) else zeros()


@compiled
def down(array: Array, row: int, x: int) -> Any:
    """What six rows hold at one place."""
    return (
        load(array, row, x), load(array, row + 1, x), load(array, row + 2, x),
        load(array, row + 3, x), load(array, row + 4, x), load(array, row + 5, x),
    )  # fmt: skip


@compiled
def store_down(array: Array, row: int, x: int, six: Any) -> None:
    """Write into six rows at one place."""
    a, b, c, d, e, f = six
    store(array, row, x, a)
    store(array, row + 1, x, b)
    store(array, row + 2, x, c)
    store(array, row + 3, x, d)
    store(array, row + 4, x, e)
    store(array, row + 5, x, f)


@compiled
def along(array: Array, row: int, x: int, step: int) -> Any:
    """What a row holds at six places, ``step`` apart."""
    return (
        load(array, row, x), load(array, row, x + step), load(array, row, x + 2 * step),
        load(array, row, x + 3 * step), load(array, row, x + 4 * step), load(array, row, x + 5 * step),
    )  # fmt: skip


@compiled
def _transform_beside(
    image: Array, top: int, left: int, count: int, channels: int, strip: Array, tiles: Array, to: int
) -> None:
    """Transform ``count`` tiles side by side, the first of which begins at row ``top`` and column ``left``.

    ``image`` ``(height, width * channels)``; ``strip`` ``(6, at least (4 * count + 2) * channels)``, overwritten;
    ``tiles`` ``(36, tiles * channels)``, written from tile ``to`` on.
    """
    begin, end = max(left, 0), min(left + OUT * count + IN - OUT, image.shape[1] // channels)
    strip[:, : (begin - left) * channels] = 0
    strip[:, (end - left) * channels : (OUT * count + IN - OUT) * channels] = 0
    length = (end - begin) * channels
    for chunk in range(count_chunks(length)):
        x = begin * channels + chunk_start(chunk, length)
        column = _transform(
            pixels(image, top, x), pixels(image, top + 1, x), pixels(image, top + 2, x),
            pixels(image, top + 3, x), pixels(image, top + 4, x), pixels(image, top + 5, x),
        )  # fmt: skip
        store_down(strip, 0, x - left * channels, column)
    for i in range(IN):
        for tile in range(count):
            for chunk in range(count_chunks(channels)):
                c = chunk_start(chunk, channels)
                row = along(strip, i, OUT * tile * channels + c, channels)
                store_down(tiles, IN * i, (to + tile) * channels + c, _transform(*row))


@compiled
def tiles_beside(tile: int, last: int, images: Array, channels: int) -> Any:
    """Image, row and column of a tile, and how many tiles up to ``last`` stand side by side from it on.

    ``images`` ``(images, height, width * channels)``.
    """
    strips, across = -(-images.shape[1] // OUT), -(-(images.shape[2] // channels) // OUT)
    strip, column = tile // across, tile % across
    return strip // strips, strip % strips * OUT, column * OUT, min(across - column, last - tile)


@compiled
def transform_tiles(images: Array, first: int, last: int, channels: int, strip: Array, tiles: Array) -> None:
    """Transform tiles ``first`` to ``last`` of all images, see :func:`_transform_beside`."""
    tile = first
    while tile < last:
        image, top, left, beside = tiles_beside(tile, last, images, channels)
        _transform_beside(images[image], top - 1, left - 1, beside, channels, strip, tiles, tile - first)
        tile += beside
