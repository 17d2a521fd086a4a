"""Weighted sums of four rows of numbers, which samples of an image are, in compiled loops."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import ARITHMETIC, inlined
from nnunet_fganet.compiled.half import narrow, widen
from nnunet_fganet.compiled.lanes import FLOAT16_ROWS, LANES, address, broadcast, load, store

Array = NDArray[Any]
_LEVELS = 32  # at a time
# Where float16 holds whole numbers only: the last byte of a number between 0 and 255 plus this is that number, rounded.
_ONLY_WHOLE = np.float32(1536)
_LEVEL_ROWS = types.Array(types.uint8, 2, "C")
_FLAGS = tuple(sorted(ARITHMETIC))
_HALVES, _HALF_BITS, _BYTES = (ir.VectorType(kind, _LEVELS) for kind in (ir.HalfType(), ir.IntType(16), ir.IntType(8)))


@inlined
def write_mixture(
    rows: Array, a: int, b: int, c: int, d: int, start: int, wa: Any, wb: Any, wc: Any, wd: Any, added: Any,
    out: Array, to: int,
) -> None:  # fmt: skip
    """Write the sum of four rows times their shares, plus ``added``, into row ``to`` of ``out``.

    ``rows`` and ``out`` are as for :func:`.lanes.load` and :func:`.lanes.store`; ``a`` to ``d``: the numbers of the
    four rows, of which as many columns are read as ``out`` has, from ``start`` on; ``wa`` to ``wd``: their shares.
    """
    tail = out.shape[1] - out.shape[1] % LANES
    for k in range(0, tail, LANES):
        x = start + k
        above = added + wa * load(rows, a, x) + wb * load(rows, b, x)
        store(out, to, k, above + (wc * load(rows, c, x) + wd * load(rows, d, x)))
    _write_tail(rows, a, b, c, d, start, wa, wb, wc, wd, added, out, to, tail)


@inlined
def write_levels(
    rows: Array, a: int, b: int, c: int, d: int, start: int, wa: Any, wb: Any, wc: Any, wd: Any, added: Any,
    out: Array, to: int,
) -> None:  # fmt: skip
    """The same of rows of float16 into rows of uint8, in float16, of which a register holds twice as many numbers.

    ``out`` has a multiple of 32 columns. With shares of at most 2 ** 10 together, sums between 0 and 255 are less than
    half a level off before they are rounded: 2 ** -4 for each of four sums, and what shares are off, 2 ** -3.
    """
    for k in range(0, out.shape[1], _LEVELS):
        _store_levels(rows, a, b, c, d, start + k, wa, wb, wc, wd, added + _ONLY_WHOLE, out, to, k)


@inlined
def _write_tail(
    rows: Array,
    a: int,
    b: int,
    c: int,
    d: int,
    start: int,
    wa: Any,
    wb: Any,
    wc: Any,
    wd: Any,
    added: Any,
    out: Array,
    to: int,
    first: int,
) -> None:
    for k in range(first, out.shape[1]):
        x = start + k
        above = added + wa * widen(rows[a, x]) + wb * widen(rows[b, x])
        value = above + (wc * widen(rows[c, x]) + wd * widen(rows[d, x]))
        out[to, k] = narrow(value, out[to, k])


@intrinsic
def _store_levels(
    typing_context: Any,
    rows: Any,
    a: Any,
    b: Any,
    c: Any,
    d: Any,
    start: Any,
    wa: Any,
    wb: Any,
    wc: Any,
    wd: Any,
    added: Any,
    out: Any,
    to: Any,
    column: Any,
) -> Any:
    """See :func:`write_levels`: 32 numbers."""
    if rows != FLOAT16_ROWS or out != _LEVEL_ROWS:
        return None  # Numba says that it has no such function

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows_, *places, start, wa, wb, wc, wd, added, out_, to, column = values
        total = None
        for row, share in zip(places, (wa, wb, wc, wd), strict=True):
            place = address(context, builder, rows_, row, start, _LEVELS, FLOAT16_ROWS)
            numbers = builder.load(builder.bitcast(place, _HALVES.as_pointer()), align=2)
            part = builder.fmul(numbers, _half(builder, share), flags=_FLAGS)
            total = part if total is None else builder.fadd(total, part, flags=_FLAGS)
        whole = builder.bitcast(builder.fadd(total, _half(builder, added)), _HALF_BITS)
        place = address(context, builder, out_, to, column, _LEVELS, _LEVEL_ROWS)
        builder.store(builder.trunc(whole, _BYTES), builder.bitcast(place, _BYTES.as_pointer()), align=1)
        return context.get_dummy_value()

    index = types.intp
    given = rows, *5 * [index], *5 * [types.float32], out, index, index
    return types.void(*given), generate


def _half(builder: Any, number: Any) -> Any:
    return broadcast(builder, builder.fptrunc(number, ir.HalfType()), _LEVELS)
