"""Products of matrices by a processor's matrix units (Intel's AMX) in compiled loops.

The units have eight registers (*tiles*) of 16 rows of 64 bytes. A product of a tile of 16 x 64 8-bit integers and one
of 64 x 16 adds to a tile of 16 x 16 sums of 32 bits (Intel 64 and IA-32 Architectures Software Developer's Manual,
TDPBSSD and TDPBUSD), one of 16 x 32 and 32 x 16 numbers in bfloat16 to sums in float32 (TDPBF16PS). Such products make
blocks of 32 x 32 sums. A 16-bit integer is ``256 * high + low`` of two 8-bit ones; of the four products of two of them
three count, and a block has 32 x 16 sums for high times high bytes and as many for the others.
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
from torch.nn import functional

ROWS_OF_TILE = 16  # of the left factor and of the sums
BLOCK = 32  # rows of the sums in a block
PANEL = 16  # columns of the sums in a block of 16-bit integers
WIDE_PANEL = 32  # columns of the sums in other blocks
STEP = 64  # numbers that one step multiplies
STEP_BYTES = 2 * PANEL * STEP  # of the right factor: its high bytes, its low bytes
SUMS_BYTES = 2 * 4 * BLOCK * PANEL  # of a block: of high bytes, then of high times low ones
ROW_BYTES = 64  # of a tile
WIDE_STEP_BYTES = 2048  # of either factor, of one step of a block of 32 x 32 sums
_TILE_BYTES = 1024
_BYTE, _LONG, _NOTHING = ir.IntType(8), ir.IntType(64), ir.VoidType()
_POINTER = _BYTE.as_pointer()
_SHAPES = types.Array(types.uint8, 1, "C")
# Tiles: sums of high times high bytes of two times 16 rows, sums of high times low ones; left factors; right factors.
# In blocks of 32 x 32 sums, those of the first 16 columns and of the others.
_HIGH_SUMS, _LOW_SUMS, _LEFT, _RIGHT = (0, 1), (2, 3), (4, 5), (6, 7)


@cache
def has_matrix_units() -> bool:
    """Whether this process may use them: the processor has them, LLVM knows them, and the system allows it."""
    known = get_host_cpu_features()
    if not all(known.get(f"amx-{each}", False) for each in ("tile", "int8", "bf16")):
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
    shapes[16:32].view(np.uint16)[:] = ROW_BYTES
    shapes[48:56] = ROWS_OF_TILE
    return shapes


def _call(builder: Any, name: str, *given: Any) -> Any:
    kind = ir.FunctionType(_NOTHING, [each.type for each in given])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), given)


def _pointer(builder: Any, address: Any, step: int = 0) -> Any:
    return builder.inttoptr(builder.add(address, _LONG(step)), _POINTER)


def _data(context: Any, builder: Any, array: Any) -> Any:
    return context.make_array(_SHAPES)(context, builder, array).data


@intrinsic
def begin_tiles(typing_context: Any, shapes: Any, before: Any) -> Any:
    """Tell the units the shapes of the tiles, by address; what they were told before is kept in ``before``.

    ``before``: an array of 64 bytes, of uint8.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        shapes, before = values
        _call(builder, "sttilecfg", _data(context, builder, before))
        _call(builder, "ldtilecfg", _pointer(builder, shapes))
        return context.get_dummy_value()

    return types.void(types.int64, _SHAPES), generate


@intrinsic
def end_tiles(typing_context: Any, before: Any) -> Any:
    """Tell the units again what they were told before: the thread is torch's, whose kernels use them too."""

    # Given the array itself: by its address alone Numba would not know that it is still used.
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call(builder, "ldtilecfg", _data(context, builder, values[0]))
        return context.get_dummy_value()

    return types.void(_SHAPES), generate


@intrinsic
def clear_sums(typing_context: Any) -> Any:
    """Begin a block of sums."""

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
        _load(builder, _RIGHT[0], _pointer(builder, factor), _LONG(ROW_BYTES))
        _load(builder, _RIGHT[1], _pointer(builder, factor, _TILE_BYTES), _LONG(ROW_BYTES))
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


def _wide_products(product: str) -> Callable[..., tuple[Any, Any]]:
    """Products of one step of a block of 32 x 32 sums; ``product`` is the instruction."""

    def intrinsic_of(typing_context: Any, first: Any, second: Any, stride: Any, factor: Any) -> tuple[Any, Any]:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            first, second, stride, factor = values
            for k, right in enumerate(_RIGHT):
                _load(builder, right, _pointer(builder, factor, k * _TILE_BYTES), _LONG(ROW_BYTES))
            for k, (row, left) in enumerate(zip((first, second), _LEFT, strict=True)):
                _load(builder, left, _pointer(builder, row), stride)
                for sums, right in zip((_HIGH_SUMS, _LOW_SUMS), _RIGHT, strict=True):
                    _call(builder, product, _BYTE(sums[k]), _BYTE(left), _BYTE(right))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return intrinsic_of


# Multiply 32 rows by a step of a panel of :func:`tiles_of`, all given by address, and add to the sums. ``first``,
# ``second``: where 16 rows each begin, ``stride`` bytes from row to row; ``factor``: where the step begins.
add_bfloat16_products = intrinsic(_wide_products("tdpbf16ps"))
add_level_products = intrinsic(_wide_products("tdpbusd"))  # rows of uint8, weights of int8


def tiles_of(matrix: torch.Tensor) -> torch.Tensor:
    """Lay out a matrix ``(columns, numbers)``, bfloat16 or int8, as the right factor of blocks of 32 x 32 sums.

    Returns
    -------
    torch.Tensor
        ``(panels, steps, 2, 16, 16, numbers of 4 bytes)``: panel by panel of :data:`WIDE_PANEL` columns, step by step
        of a row of a tile. What is missing in the last panel and step is zero.
    """
    quad = 4 // matrix.element_size()
    in_row = ROW_BYTES // matrix.element_size()
    columns, numbers = matrix.shape
    padded = functional.pad(matrix, (0, -numbers % in_row, 0, -columns % WIDE_PANEL))
    return padded.view(len(padded) // WIDE_PANEL, 2, PANEL, -1, 16, quad).permute(0, 3, 1, 4, 2, 5).contiguous()


@intrinsic
def write_sums(typing_context: Any, out: Any) -> Any:
    """Write the sums to an address, 32 bits each, ``(2, 32, 16)``.

    First those of high bytes or of the first 16 columns, then those of high times low ones or of the other columns.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for k, tile in enumerate((*_HIGH_SUMS, *_LOW_SUMS)):
            place = _pointer(builder, values[0], k * _TILE_BYTES)
            _call(builder, "tilestored64", _BYTE(tile), place, _LONG(ROW_BYTES))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def continue_sums(typing_context: Any, given: Any) -> Any:
    """Go on with sums that :func:`write_sums` has written to an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for k, tile in enumerate((*_HIGH_SUMS, *_LOW_SUMS)):
            _load(builder, tile, _pointer(builder, values[0], k * _TILE_BYTES), _LONG(ROW_BYTES))
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _load(builder: Any, tile: int, place: Any, stride: Any) -> None:
    _call(builder, "tileloadd64", _BYTE(tile), place, stride)


def _add_product(builder: Any, sums: int, left: int, right: int) -> None:
    _call(builder, "tdpbssd", _BYTE(sums), _BYTE(left), _BYTE(right))
