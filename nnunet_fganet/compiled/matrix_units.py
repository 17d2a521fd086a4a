"""Products of matrices of 16-bit integers by a processor's matrix units (Intel's AMX) in compiled loops.

The units have eight registers (*tiles*) of 16 rows of 64 bytes. A product of a tile of 16 x 64 8-bit integers and one
of 64 x 16 adds to a tile of 16 x 16 sums of 32 bits (Intel 64 and IA-32 Architectures Software Developer's Manual,
TDPBSSD). A 16-bit integer is ``256 * high + low`` of two 8-bit ones; of the four products of two such sums three count.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS_OF_TILE = 16  # of the left factor and of the sums
BLOCK = 32  # rows of the sums in a block
PANEL = 16  # columns of the sums in a block
STEP = 64  # numbers that one step multiplies
STEP_BYTES = 2 * PANEL * STEP  # of the right factor: its high bytes, its low bytes
SUMS_BYTES = 2 * 4 * BLOCK * PANEL  # of a block: of high bytes, then of high times low ones
_ROW_BYTES, _TILE_BYTES = 64, 1024
_BYTE, _LONG, _NOTHING = ir.IntType(8), ir.IntType(64), ir.VoidType()
_POINTER = _BYTE.as_pointer()
# Tiles: sums of high times high bytes of two times 16 rows, sums of high times low ones; left factors; right factors.
_HIGH_SUMS, _LOW_SUMS, _LEFT, _RIGHT = (0, 1), (2, 3), (4, 5), (6, 7)


@cache
def has_matrix_units() -> bool:
    """Whether this process may use them: the processor has them, LLVM knows them, and the system allows it."""
    known = get_host_cpu_features()
    if not (known.get("amx-tile", False) and known.get("amx-int8", False)):
        return False
    allow = getattr(torch.cpu, "_init_amx", None)  # Linux wants to be asked for the memory of the tiles
    return allow is not None and bool(allow())


def cpu_capabilities() -> dict[str, Any]:
    """What this CPU says of itself, by torch's names: nothing where torch is too old to ask."""
    get_capabilities: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return get_capabilities()


@cache
def tile_shapes() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What the units are told of the tiles: palette 1, eight tiles of 16 rows of 64 bytes."""
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1
    shapes[16:32].view(np.uint16)[:] = _ROW_BYTES
    shapes[48:56] = ROWS_OF_TILE
    return shapes


def _call(builder: Any, name: str, *given: Any) -> Any:
    kind = ir.FunctionType(_NOTHING, [each.type for each in given])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), given)


def _pointer(builder: Any, address: Any, step: int = 0) -> Any:
    return builder.inttoptr(builder.add(address, _LONG(step)), _POINTER)


@intrinsic
def begin_tiles(typing_context: Any, shapes: Any, before: Any) -> Any:
    """Tell the units the shapes of the tiles, by address; what they were told before is kept, in 64 bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        shapes, before = values
        _call(builder, "sttilecfg", _pointer(builder, before))
        _call(builder, "ldtilecfg", _pointer(builder, shapes))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def end_tiles(typing_context: Any, before: Any) -> Any:
    """Tell the units again what they were told before: the thread is torch's, whose kernels use them too."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call(builder, "ldtilecfg", _pointer(builder, values[0]))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def clear_sums(typing_context: Any) -> Any:
    """Begin a block of 32 x 16 sums."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for tile in (*_HIGH_SUMS, *_LOW_SUMS):
            _call(builder, "tilezero", _BYTE(tile))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def add_tile_products(typing_context: Any, first: Any, second: Any, low: Any, stride: Any, factor: Any) -> Any:
    """Multiply 32 rows by a step of a panel of the weights, all given by address, and add to the sums.

    The weights are those of :func:`.fixed_point_weight.fixed_point_weight`.
    ``first`` and ``second``: where the high bytes of 16 rows each begin, ``stride`` bytes from row to row; the low
    bytes lie ``low`` bytes behind them.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        first, second, low, stride, factor = values
        rows = first, second
        _load(builder, _RIGHT[0], _pointer(builder, factor), _LONG(_ROW_BYTES))
        _load(builder, _RIGHT[1], _pointer(builder, factor, _TILE_BYTES), _LONG(_ROW_BYTES))
        # Products that add to the same sums are far apart: each takes as long as three others.
        for row, left, sums in zip(rows, _LEFT, _LOW_SUMS, strict=True):
            _load(builder, left, _pointer(builder, row), stride)
            _add_product(builder, sums, left, _RIGHT[1])
        for left, sums in zip(_LEFT, _HIGH_SUMS, strict=True):
            _add_product(builder, sums, left, _RIGHT[0])
        for row, left, sums in zip(rows, _LEFT, _LOW_SUMS, strict=True):
            _load(builder, left, _pointer(builder, builder.add(row, low)), stride)
            _add_product(builder, sums, left, _RIGHT[0])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def write_sums(typing_context: Any, out: Any) -> Any:
    """Write the sums to an address, int32 ``(2, 32, 16)``: of high bytes, then of high times low ones."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for k, tile in enumerate((*_HIGH_SUMS, *_LOW_SUMS)):
            place = _pointer(builder, values[0], k * _TILE_BYTES)
            _call(builder, "tilestored64", _BYTE(tile), place, _LONG(_ROW_BYTES))
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _load(builder: Any, tile: int, place: Any, stride: Any) -> None:
    _call(builder, "tileloadd64", _BYTE(tile), place, stride)


def _add_product(builder: Any, sums: int, left: int, right: int) -> None:
    _call(builder, "tdpbssd", _BYTE(sums), _BYTE(left), _BYTE(right))
