"""Products of small matrices in compiled loops, by one thread each: sums stay in the registers."""

from typing import Any

import torch
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnunet_fganet.compiled.decorators import compiled
from nnunet_fganet.compiled.lanes import LANES, ROWS, VECTOR, address, broadcast, multiply_add

# Rows that are summed up at a time. There are 16 registers of eight numbers with AVX and 32 of four on Arm, for these
# sums and what they are computed from; with AVX-512, where there is room, twice as many hide how long each step takes.
HEIGHT = 12 if get_host_cpu_features().get("avx512f", False) else 6


def panels(matrix: torch.Tensor) -> torch.Tensor:
    """Cut a matrix ``(..., columns)`` into panels of :data:`.lanes.LANES` columns, ``(panels, ..., LANES)``.

    There are at least as many columns; the last panel holds the last of them, some for the second time.
    """
    columns = matrix.shape[-1]
    first = [min(left, columns - LANES) for left in range(0, columns, LANES)]
    return torch.stack([matrix[..., left : left + LANES] for left in first])


@intrinsic
def _block(typing_context: Any, a: Any, row: Any, b: Any, b_row: Any, out: Any) -> Any:
    """Compute :data:`HEIGHT` rows of ``out``, from ``row`` on: those of ``a`` times a panel of ``b``."""
    if (a, b, out) != (ROWS, ROWS, ROWS):
        return None  # Numba says that it has no such function

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, row, b, b_row, out = values
        left = row.type(0)
        rows = [builder.add(row, row.type(i)) for i in range(HEIGHT)]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(VECTOR, None)) for _ in rows]
        length = builder.extract_value(context.make_array(ROWS)(context, builder, a).shape, 1)
        with cgutils.for_range(builder, length) as loop:
            at = builder.add(b_row, loop.index)
            place_in_b = address(context, builder, b, at, left)
            factors = builder.load(place_in_b, align=4)
            _prefetch(builder, builder.gep(place_in_b, [length]))
            for i, place in zip(rows, sums, strict=True):
                number = builder.load(address(context, builder, a, i, loop.index, 1))
                builder.store(multiply_add(builder, broadcast(builder, number), factors, builder.load(place)), place)
        for i, place in zip(rows, sums, strict=True):
            builder.store(builder.load(place), address(context, builder, out, i, left), align=4)
        return context.get_dummy_value()

    return types.void(a, types.intp, b, types.intp, out), generate


@intrinsic
def _sums(typing_context: Any, a: Any, row: Any, column: Any, count: Any, b: Any, b_row: Any, out: Any, at: Any) -> Any:
    """Add to :data:`HEIGHT` rows of ``out``, from ``at`` on: columns of ``a``, from ``column`` on, times a panel."""
    if (a, b, out) != (ROWS, ROWS, ROWS):
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, row, column, count, b, b_row, out, at = values
        left = row.type(0)
        places = [address(context, builder, out, builder.add(at, at.type(i)), left) for i in range(HEIGHT)]
        sums = [cgutils.alloca_once_value(builder, builder.load(place, align=4)) for place in places]
        columns = [builder.add(column, column.type(i)) for i in range(HEIGHT)]
        with cgutils.for_range(builder, count) as loop:
            factors = builder.load(address(context, builder, b, builder.add(b_row, loop.index), left), align=4)
            line = builder.add(row, loop.index)
            for each, total in zip(columns, sums, strict=True):
                number = broadcast(builder, builder.load(address(context, builder, a, line, each, 1)))
                builder.store(multiply_add(builder, number, factors, builder.load(total)), total)
        for place, total in zip(places, sums, strict=True):
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, types.intp, b, types.intp, out, types.intp), generate


def _prefetch(builder: Any, pointer: Any) -> None:
    """Ask for what will be read soon; it may lie outside of everything."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, *[ir.IntType(32)] * 3])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    read, locality, data = (ir.Constant(ir.IntType(32), each) for each in (0, 2, 1))
    builder.call(prefetch, [builder.bitcast(pointer, byte), read, locality, data])


@compiled
def multiply(a: Any, first: int, count: int, b: Any, b_row: int, out: Any) -> None:
    """Multiply rows ``first`` to ``first + count`` of ``a`` with a panel, into the same rows of ``out``.

    ``a`` ``(rows, length)``; ``b`` ``(at least b_row + length, LANES)``, whose panel begins at ``b_row``; ``out``
    ``(rows, LANES)``; ``count`` is at least :data:`HEIGHT`. Meanwhile the panel that follows in ``b`` is fetched.
    """
    for row in range(first, first + count, HEIGHT):
        _block(a, min(row, first + count - HEIGHT), b, b_row, out)


@compiled
def count_blocks(length: int) -> int:
    """How many times :data:`HEIGHT` numbers a row takes; the last block may begin inside the one before it."""
    return -(-length // HEIGHT)


@compiled
def add_products(a: Any, row: int, count: int, b: Any, b_row: int, out: Any, at: int) -> None:
    """Add ``count`` rows of ``a``, transposed, times as many rows of a panel to a panel of ``out``.

    ``a`` ``(at least row + count, at least HEIGHT)``; ``b`` ``(at least b_row + count, LANES)``; ``out`` ``(at least
    at + blocks * HEIGHT, LANES)``: the columns of ``a`` in blocks, see :func:`count_blocks` and :func:`joined`.
    """
    columns = a.shape[1]
    for block in range(count_blocks(columns)):
        _sums(a, row, min(block * HEIGHT, columns - HEIGHT), count, b, b_row, out, at + block * HEIGHT)


def joined(blocks: torch.Tensor, dimension: int, length: int) -> torch.Tensor:
    """Put together what was cut into blocks along a dimension, the last of which may begin inside the one before it.

    ``blocks`` has the blocks in ``dimension`` and what they hold in the next one, of which ``length`` numbers remain.
    """
    count, size = blocks.shape[dimension : dimension + 2]
    flat = blocks.flatten(dimension, dimension + 1)
    if count * size == length:
        return flat
    whole = (count - 1) * size
    return torch.cat(
        [flat.narrow(dimension, 0, whole), flat.narrow(dimension, count * size - (length - whole), length - whole)],
        dimension,
    )
