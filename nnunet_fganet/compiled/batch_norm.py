"""BatchNorm, dropout and LeakyReLU of a training, in two passes over the images.

Each of them alone would read and write its images. Gradients are those of :mod:`.batch_norm_gradient`.

Images are one row of numbers, channel after channel of each pixel. A *period* is a number of channels, or a multiple of
it, that vectors can be counted in; tables hold a number of each channel as often as a period does.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.dropout import LEVELS, draw
from nnunet_fganet.compiled.half import narrow
from nnunet_fganet.compiled.lanes import LANES, kept, leaky_relu, load, store
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

_NUMBERS = 2**14  # of a part, about: what it reads and writes stays in the nearest caches
_FEWEST = 128  # numbers of a period, so that its loop is worth its while
Array = NDArray[Any]
_F = np.float32


@dataclass(frozen=True)
class Activation:
    """What follows a BatchNorm: dropout of ``dropped / LEVELS`` of all entries by ``seed``, and LeakyReLU.

    See :func:`nnunet_fganet.compiled.dropout.drop`; a ``slope`` of 1 is no LeakyReLU, of 0 ReLU.
    """

    slope: float = 1.0
    seed: int = 0
    dropped: int = 0

    @property
    def scale(self) -> float:
        """What kept entries are multiplied by."""
        return LEVELS / (LEVELS - self.dropped)

    @property
    def draws(self) -> tuple[int, int]:
        """What is drawn for dropout."""
        return self.seed, self.dropped

    @property
    def factors(self) -> tuple[float, float]:
        """What numbers are multiplied by, kept ones and, once more, those below zero."""
        return float(self.scale), float(self.slope)


def channel_moments(rows: torch.Tensor) -> torch.Tensor:
    """Mean and variance of each channel.

    Sums are taken part by part, of differences to one of the part's own values, and the parts are put together (Chan et
    al. 1979): a large mean does not swallow small deviations.

    Parameters
    ----------
    rows
        ``(pixels, channels)``, contiguous, float32.

    Returns
    -------
    torch.Tensor
        ``(2, channels)``, float64; the variance over all pixels, not over one less.

    Raises
    ------
    ValueError
        The rows are of another kind.
    """
    check_array("rows", rows, torch.float32, *rows.shape)
    portions = Portions.of(rows)
    sums = rows.new_empty(portions.count, 3, portions.channels)
    run_parts(_moments_loop(), portions.count, *portions.sizes, rows.data_ptr(), sums.data_ptr())
    moments = rows.new_empty(2, rows.shape[1], dtype=torch.float64)
    given = portions.count, *portions.sizes, sums.data_ptr(), moments.data_ptr()
    run_parts(_pooling_loop(), 1, *given)
    return moments


def normalize(
    rows: torch.Tensor,
    moments: torch.Tensor,
    affine: torch.Tensor,
    eps: float,
    activation: Activation,
    rounds: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """BatchNorm by given moments, then dropout and LeakyReLU.

    Parameters
    ----------
    rows
        ``(pixels, channels)``, contiguous, float32.
    moments
        Of :func:`channel_moments`.
    affine
        Weight and bias, ``(2, channels)``, contiguous, float32.
    eps
        What is added to the variance.
    activation
        What follows.
    rounds
        Whether a second copy is written, in bfloat16.

    Returns
    -------
    tuple of torch.Tensor
        Like ``rows``, and the second copy.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    check_rows(rows, moments, affine)
    portions, out = Portions.of(rows), torch.empty_like(rows)
    copy = torch.empty_like(rows, dtype=torch.bfloat16) if rounds else None
    addresses = (each.data_ptr() for each in (rows, moments, affine, out, out if copy is None else copy))
    given = *portions.sizes, *activation.draws, *addresses, *activation.factors, eps
    run_parts(_normalize_loop(rounds), portions.count, *given)
    return out, copy


def check_rows(rows: torch.Tensor, moments: torch.Tensor, affine: torch.Tensor) -> None:
    """Refuse what is not as :func:`normalize` describes it (ValueError)."""
    pixels, channels = rows.shape
    check_array("rows", rows, torch.float32, pixels, channels)
    check_array("moments", moments, torch.float64, 2, channels)
    check_array("affine", affine, torch.float32, 2, channels)


@dataclass(frozen=True)
class Portions:
    """How the numbers of images are shared out: how many there are, how many channels, and of a period and a part."""

    size: int
    channels: int
    period: int
    numbers: int

    @classmethod
    def of(cls, rows: torch.Tensor) -> "Portions":
        """Those of ``(pixels, channels)``."""
        pixels, channels = rows.shape
        period = math.lcm(channels, LANES)
        period *= -(-_FEWEST // period)
        return cls(pixels * channels, channels, period, period * max(1, _NUMBERS // period))

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """What loops are given."""
        return self.size, self.channels, self.period, self.numbers

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.size // self.numbers)


@compiled
def _add_moments(images: Array, first: int, last: int, columns: Array, sums: Array) -> None:
    """Of each channel: one of its numbers, and the sums of the differences to it and of their squares.

    ``columns`` ``(3, period)`` is for those of each column.
    """
    period, channels = columns.shape[1], sums.shape[1]
    for c in range(period):
        columns[0, c] = images[0, first + c % channels]
    columns[1:] = 0
    for start in range(first, last, period):
        stop = min(period, last - start)
        tail = stop - stop % LANES
        for c in range(0, tail, LANES):
            value = load(images, 0, start + c) - load(columns, 0, c)
            store(columns, 1, c, load(columns, 1, c) + value)
            store(columns, 2, c, load(columns, 2, c) + value * value)
        for c in range(tail, stop):
            number = images[0, start + c] - columns[0, c]
            columns[1, c] += number
            columns[2, c] += number * number
    sums[0] = columns[0, :channels]
    add_columns(columns[1:], sums[1:])


@compiled
def add_columns(columns: Array, sums: Array) -> None:
    """Sums of all columns ``(kinds, period)`` of each channel, ``(kinds, channels)``."""
    channels = sums.shape[1]
    sums[:] = columns[:, :channels]
    for start in range(channels, columns.shape[1], channels):
        for kind in range(len(sums)):
            for c in range(channels):
                sums[kind, c] += columns[kind, start + c]


@cache
def _moments_loop() -> Any:
    """Compile the loop over portions of all images."""

    @loop("float32")
    def moments_of_portions(data: Any) -> None:
        a = arguments(data, 6)
        size, channels, period, numbers = a[0], a[1], a[2], a[3]
        images = carray(pointer(a[4]), (1, size), _F)
        sums = carray(pointer(a[5]), (parts(data), 3, channels), _F)
        columns = np.empty((3, period), _F)
        part = next_part(data)
        while part < parts(data):
            first = part * numbers
            _add_moments(images, first, min(first + numbers, size), columns, sums[part])
            finish_part(data)
            part = next_part(data)

    return moments_of_portions


@compiled
def _pool_moments(sums: Array, pixels: int, most: int, moments: Array) -> None:
    """Put together the sums of each channel in parts of ``most`` pixels, but for the last one."""
    channels, before = moments.shape[1], 0.0
    moments[:] = 0
    for part in range(len(sums)):
        count = np.float64(min(most, pixels - part * most))
        share = count / (before + count)
        for c in range(channels):
            total = np.float64(sums[part, 1, c])
            step = sums[part, 0, c] + total / count - moments[0, c]
            moments[0, c] += step * share
            moments[1, c] += sums[part, 2, c] - total * total / count + step * step * before * share
        before += count
    for c in range(channels):
        moments[1, c] = max(moments[1, c], 0) / before


@cache
def _pooling_loop() -> Any:
    """Compile the loop over one part: all sums."""

    @loop("float32")
    def pool_moments(data: Any) -> None:
        a = arguments(data, 7)
        count, size, channels, _, numbers = a[0], a[1], a[2], a[3], a[4]
        sums = carray(pointer(a[5]), (count, 3, channels), _F)
        moments = carray(pointer(a[6]), (2, channels), np.float64)
        while next_part(data) < parts(data):
            _pool_moments(sums, size // channels, numbers // channels, moments)
            finish_part(data)

    return pool_moments


@compiled
def fill_table(moments: Array, affine: Array, kept_scale: Any, eps: Any, table: Array) -> None:
    """Rows of a table: factor and summand of a BatchNorm, both times ``kept_scale``, and the mean."""
    channels = moments.shape[1]
    for c in range(table.shape[1]):
        channel = c % channels
        scale = affine[0, channel] / math.sqrt(moments[1, channel] + eps)
        table[0, c] = scale * kept_scale
        table[1, c] = (affine[1, channel] - moments[0, channel] * scale) * kept_scale
        table[2, c] = moments[0, channel]


@compiled
def _normalize(
    images: Array,
    first: int,
    last: int,
    table: Array,
    levels: Array,
    dropped: Any,
    slope: Any,
    rounds: bool,
    out: Array,
    copy: Array,
) -> None:
    """``copy``: of bfloat16, written if ``rounds``."""
    period = table.shape[1]
    for start in range(first, last, period):
        stop = min(period, last - start)
        tail = stop - stop % LANES
        for c in range(0, tail, LANES):
            value = leaky_relu(load(images, 0, start + c) * load(table, 0, c) + load(table, 1, c), slope)
            if dropped > 0:
                value = kept(value, levels, start - first + c, dropped)
            store(out, 0, start + c, value)
            if rounds:
                store(copy, 0, start + c, value)
        for c in range(tail, stop):
            number = images[0, start + c] * table[0, c] + table[1, c]
            number = number if number > 0 else number * slope
            number = number if levels[0, start - first + c] >= dropped else _F(0)
            out[0, start + c] = number
            if rounds:
                copy[0, start + c] = narrow(number, copy[0, start + c])


@cache
def _normalize_loop(rounds: bool) -> Any:
    """Compile the loop over portions of all images."""

    @loop("float32_bfloat16" if rounds else "float32")
    def normalize_portions(data: Any) -> None:
        a, factors = arguments(data, 14), float_arguments(data, 14)[11:]
        size, channels, period, numbers, seed, dropped = a[0], a[1], a[2], a[3], np.uint64(a[4]), np.uint16(a[5])
        images, out = carray(pointer(a[6]), (1, size), _F), carray(pointer(a[9]), (1, size), _F)
        copy = carray(pointer(a[10]), (1, size), np.uint16)
        moments, affine = carray(pointer(a[7]), (2, channels), np.float64), carray(pointer(a[8]), (2, channels), _F)
        table, slope = np.empty((3, period), _F), _F(factors[1])
        fill_table(moments, affine, factors[0], factors[2], table)
        words = np.zeros((1, numbers // 4), np.uint64)
        levels = words.view(np.uint16)
        part = next_part(data)
        while part < parts(data):
            first = part * numbers
            if dropped > 0:
                draw(seed, first // 4, words[0])
            last = min(first + numbers, size)
            _normalize(images, first, last, table, levels, dropped, slope, rounds, out, copy)
            finish_part(data)
            part = next_part(data)

    return normalize_portions
