"""Where the decoder joins two resolutions, in one pass over memory each.

Upsamplings, sigmoid, product, sum and concatenation of their own would each write and read a whole feature map.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, inlined, loop
from nnunet_fganet.compiled.elementary import sigmoid
from nnunet_fganet.compiled.first_lanes import load_first, store_first
from nnunet_fganet.compiled.half import NUMBERS, check_numbers, widen
from nnunet_fganet.compiled.lanes import COPIED, LANES, copy, load, store
from nnunet_fganet.compiled.rounding import round_row, rounded_address
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Array = NDArray[Any]
_F = np.float32


def gate_and_add(
    fine: torch.Tensor,
    gate: torch.Tensor,
    coarse: torch.Tensor,
    out: torch.Tensor | None = None,
    rounded: torch.Tensor | None = None,
) -> None:
    """Overwrite ``fine``, or ``out``, with ``fine * sigmoid(upsample(gate)) + upsample(coarse)``.

    Upsampling is bilinear to twice the height and width, corners aligned.

    Parameters
    ----------
    fine
        ``(batch, 2 height, 2 width, channels)``, contiguous, float32, bfloat16 or float16.
    gate, coarse
        ``(batch, height, width, channels)``, likewise.
    out
        Like ``fine``.
    rounded
        Of the same shape, bfloat16: a copy, written beside.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, channels = gate.shape
    out = fine if out is None else out
    for name, each in (("fine", fine), ("out", out)):
        check_array(name, each, fine.dtype, batch, 2 * height, 2 * width, channels)
    for name, each in (("gate", gate), ("coarse", coarse)):
        check_array(name, each, fine.dtype, *gate.shape)
    addresses = *(each.data_ptr() for each in (fine, gate, coarse, out)), rounded_address(rounded, *fine.shape)
    run_parts(_gate_loop(fine.dtype), batch * 2 * height, batch, height, width, channels, *addresses)


def gate_and_add_gradients(
    gradient: torch.Tensor, fine: torch.Tensor, gate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of :func:`gate_and_add`.

    Parameters
    ----------
    gradient
        Of what it writes, ``(batch, 2 height, 2 width, channels)``, contiguous, float32 or bfloat16.
    fine
        As there, float32.
    gate
        As there, like ``gradient``.

    Returns
    -------
    tuple of torch.Tensor
        Of ``fine``, float32, and of the upsampled ``gate``, like ``gradient``. That of the upsampled
        ``coarse`` is ``gradient``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, channels = gate.shape
    check_numbers("gradient", gradient, batch, 2 * height, 2 * width, channels)
    check_array("fine", fine, torch.float32, *gradient.shape)
    check_array("gate", gate, gradient.dtype, *gate.shape)
    of_fine, of_gate = torch.empty_like(fine), torch.empty_like(gradient)
    addresses = (each.data_ptr() for each in (gradient, fine, gate, of_fine, of_gate))
    run_parts(_gradients_loop(gradient.dtype), batch * 2 * height, batch, height, width, channels, *addresses)
    return of_fine, of_gate


def join(fused: torch.Tensor, deep: torch.Tensor, rounded: torch.Tensor | None = None) -> torch.Tensor:
    """Concatenate the channels of ``fused`` and of ``deep`` upsampled as :func:`gate_and_add` does.

    Parameters
    ----------
    fused
        ``(batch, 2 height, 2 width, channels)``, contiguous, float32, bfloat16 or float16.
    deep
        ``(batch, height, width, deep_channels)``, likewise.
    rounded
        Like what is returned, but bfloat16: a copy, written beside.

    Returns
    -------
    torch.Tensor
        ``(batch, 2 height, 2 width, channels + deep_channels)``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, deep_channels = deep.shape
    channels = fused.shape[-1]
    check_array("fused", fused, deep.dtype, batch, 2 * height, 2 * width, channels)
    check_array("deep", deep, deep.dtype, *deep.shape)
    out = fused.new_empty(batch, 2 * height, 2 * width, channels + deep_channels)
    run_parts(
        _join_loop(fused.dtype),
        batch * 2 * height,
        *(batch, height, width, channels, deep_channels, fused.data_ptr(), deep.data_ptr(), out.data_ptr()),
        rounded_address(rounded, *out.shape),
    )
    return out


@compiled
def between(size: int, position: int) -> tuple[int, int, Any]:
    """Two pixels of ``size`` around a pixel of twice as many, corners aligned, and the second one's weight."""
    exact = position * (size - 1) / (2 * size - 1)
    low = int(exact)
    return low, min(low + 1, size - 1), _F(exact - low)


@compiled
def _mix(a: Array, b: Array, weight: Any, out: Array) -> None:
    for i in range(out.size):
        first = widen(a[i])
        out[i] = first + weight * (widen(b[i]) - first)


@compiled
def _mixed(rows: Array, row: int, low: int, high: int, weight: Any) -> Any:
    first = load(rows, row, low)
    return first + weight * (load(rows, row, high) - first)


@compiled
def _mixed_first(rows: Array, row: int, low: int, high: int, weight: Any, count: int) -> Any:
    first = load_first(rows, row, low, count)
    return first + weight * (load_first(rows, row, high, count) - first)


@inlined
def _gate_pixel(
    fine: Array, i: int, x: int, rows: Array, low: int, high: int, weight: Any, channels: int,
    out: Array, k: int, y: int,
) -> None:  # fmt: skip
    """Gate the channels of row ``i`` from ``x`` on; those of its neighbours begin at ``low`` and ``high``.

    They are written into row ``k`` of ``out`` from ``y`` on.
    """
    vectors = channels // LANES * LANES
    for c in range(0, vectors, LANES):
        opened = sigmoid(_mixed(rows, 0, low + c, high + c, weight))
        store(out, k, y + c, load(fine, i, x + c) * opened + _mixed(rows, 1, low + c, high + c, weight))
    if vectors < channels:
        count = channels - vectors
        opened = sigmoid(_mixed_first(rows, 0, low + vectors, high + vectors, weight, count))
        coarse = _mixed_first(rows, 1, low + vectors, high + vectors, weight, count)
        store_first(out, k, y + vectors, load_first(fine, i, x + vectors, count) * opened + coarse, count)


@compiled
def _gate_pixel_gradients(
    gradient: Array,
    fine: Array,
    i: int,
    x: int,
    rows: Array,
    low: int,
    high: int,
    weight: Any,
    channels: int,
    of_fine: Array,
    of_gate: Array,
) -> None:
    """Those of the channels of row ``i`` from ``x`` on; those of the gate begin at ``low`` and ``high``."""
    vectors = channels // LANES * LANES
    for c in range(0, vectors, LANES):
        opened = sigmoid(_mixed(rows, 0, low + c, high + c, weight))
        through = load(gradient, i, x + c) * opened
        store(of_fine, i, x + c, through)
        store(of_gate, i, x + c, through * load(fine, i, x + c) * (_F(1) - opened))
    if vectors < channels:
        count, y = channels - vectors, x + vectors
        opened = sigmoid(_mixed_first(rows, 0, low + vectors, high + vectors, weight, count))
        through = load_first(gradient, i, y, count) * opened
        store_first(of_fine, i, y, through, count)
        store_first(of_gate, i, y, through * load_first(fine, i, y, count) * (_F(1) - opened), count)


@compiled
def _upsample_pixel(rows: Array, low: int, high: int, weight: Any, out: Array, i: int, x: int, channels: int) -> None:
    vectors = channels // LANES * LANES
    for c in range(0, vectors, LANES):
        store(out, i, x + c, _mixed(rows, 0, low + c, high + c, weight))
    if vectors < channels:
        count = channels - vectors
        store_first(out, i, x + vectors, _mixed_first(rows, 0, low + vectors, high + vectors, weight, count), count)


@compiled
def gate_row(
    fine: Array, gate: Array, coarse: Array, row: int, size: Any, left: int, right: int,
    rows: Array, out: Array, k: int,
) -> None:  # fmt: skip
    """Write columns ``left`` to ``right`` of a row of what :func:`gate_and_add` computes.

    Parameters
    ----------
    fine
        ``(batch * 2 height, 2 width * channels)``, of which ``row`` is taken.
    gate, coarse
        ``(batch * height, width * channels)``.
    size
        ``(height, width)``.
    rows
        ``(2, width * channels)``, float32: memory for both, halfway.
    out, k
        The channels go into row ``k``, from its beginning.
    """
    height, width = size
    channels = gate.shape[1] // width
    first = row // (2 * height) * height  # row of the image
    low, high, weight = between(height, row % (2 * height))
    start, stop = between(width, left)[0] * channels, (between(width, right - 1)[1] + 1) * channels
    _mix(gate[first + low, start:stop], gate[first + high, start:stop], weight, rows[0, start:stop])
    _mix(coarse[first + low, start:stop], coarse[first + high, start:stop], weight, rows[1, start:stop])
    for j in range(left, right):
        low, high, weight = between(width, j)
        _gate_pixel(
            fine, row, j * channels, rows, low * channels, high * channels, weight, channels, out, k,
            (j - left) * channels,
        )  # fmt: skip


@compiled
def join_row(
    fused: Array, deep: Array, row: int, size: Any, left: int, right: int, rows: Array, out: Array, k: int
) -> None:
    """Write columns ``left`` to ``right`` of a row of what :func:`join` computes; the same as for :func:`gate_row`.

    ``rows`` ``(1 or more, width * deep_channels)``.
    """
    height, width = size
    channels, deep_channels = fused.shape[1] // (2 * width), deep.shape[1] // width
    first = row // (2 * height) * height
    low, high, weight = between(height, row % (2 * height))
    start, stop = between(width, left)[0] * deep_channels, (between(width, right - 1)[1] + 1) * deep_channels
    _mix(deep[first + low, start:stop], deep[first + high, start:stop], weight, rows[0, start:stop])
    copied = channels - channels % COPIED
    for j in range(left, right):
        x, y = j * channels, (j - left) * (channels + deep_channels)
        for c in range(0, copied, COPIED):
            copy(fused, row, x + c, out, k, y + c)
        for c in range(copied, channels):
            out[k, y + c] = fused[row, x + c]
        low, high, weight = between(width, j)
        _upsample_pixel(rows, low * deep_channels, high * deep_channels, weight, out, k, y + channels, deep_channels)


@cache
def _gate_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def gate_rows(data: Any) -> None:
        a = arguments(data, 9)
        batch, height, width, channels = a[0], a[1], a[2], a[3]
        fine = carray(pointer(a[4]), (batch * 2 * height, 2 * width * channels), numbers)
        out = carray(pointer(a[7]), (batch * 2 * height, 2 * width * channels), numbers)
        gate = carray(pointer(a[5]), (batch * height, width * channels), numbers)
        coarse = carray(pointer(a[6]), (batch * height, width * channels), numbers)
        rounded = carray(pointer(a[8]), (len(out) if a[8] else 0, 2 * width * channels), np.uint16)
        rows = np.empty((2, width * channels), np.float32)
        part = next_part(data)
        while part < parts(data):
            gate_row(fine, gate, coarse, part, (height, width), 0, 2 * width, rows, out, part)
            if len(rounded):
                round_row(out, part, 0, out.shape[1], rounded)
            finish_part(data)
            part = next_part(data)

    return gate_rows


@cache
def _gradients_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def gate_row_gradients(data: Any) -> None:
        a = arguments(data, 9)
        batch, height, width, channels = a[0], a[1], a[2], a[3]
        shape = batch * 2 * height, 2 * width * channels
        gradient, fine = carray(pointer(a[4]), shape, numbers), carray(pointer(a[5]), shape, _F)
        gate = carray(pointer(a[6]), (batch * height, width * channels), numbers)
        of_fine, of_gate = carray(pointer(a[7]), shape, _F), carray(pointer(a[8]), shape, numbers)
        rows = np.empty((1, width * channels), np.float32)
        part = next_part(data)
        while part < parts(data):
            first = part // (2 * height) * height  # row of the image
            low, high, weight = between(height, part % (2 * height))
            _mix(gate[first + low], gate[first + high], weight, rows[0])
            for j in range(2 * width):
                x, (low, high, weight) = j * channels, between(width, j)
                where = part, x, rows, low * channels, high * channels, weight, channels
                _gate_pixel_gradients(gradient, fine, *where, of_fine, of_gate)
            finish_part(data)
            part = next_part(data)

    return gate_row_gradients


@cache
def _join_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def join_rows(data: Any) -> None:
        a = arguments(data, 9)
        batch, height, width, channels, deep_channels = a[0], a[1], a[2], a[3], a[4]
        fused = carray(pointer(a[5]), (batch * 2 * height, 2 * width * channels), numbers)
        deep = carray(pointer(a[6]), (batch * height, width * deep_channels), numbers)
        out = carray(pointer(a[7]), (batch * 2 * height, 2 * width * (channels + deep_channels)), numbers)
        rounded = carray(pointer(a[8]), (len(out) if a[8] else 0, out.shape[1]), np.uint16)
        rows = np.empty((1, width * deep_channels), np.float32)
        part = next_part(data)
        while part < parts(data):
            join_row(fused, deep, part, (height, width), 0, 2 * width, rows, out, part)
            if len(rounded):
                round_row(out, part, 0, out.shape[1], rounded)
            finish_part(data)
            part = next_part(data)

    return join_rows
