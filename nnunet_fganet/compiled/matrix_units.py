"""Products of bfloat16 matrices by a processor's matrix units (Intel's AMX) in compiled loops.

The units have eight registers (*tiles*) of 16 rows of 64 bytes. A product of a tile of 16 x 32 numbers in bfloat16 and
one of 32 x 16 adds to a tile of 16 x 16 sums in float32 (Intel 64 and IA-32 Architectures Software Developer's Manual,
TDPBF16PS). Four tiles of sums, of two by two products, take two tiles of each factor.
"""

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
BLOCK = 32  # rows and columns of the sums in a block, and numbers that one step multiplies
STEP_BYTES = 2048  # of the right factor
_TILE_BYTES, _ROW_BYTES = 1024, 64
_BYTE, _LONG, _NOTHING = ir.IntType(8), ir.IntType(64), ir.VoidType()
_POINTER = _BYTE.as_pointer()


@cache
def has_matrix_units() -> bool:
    """Whether this process may use them: the processor has them, LLVM knows them, and the system allows it."""
    known = get_host_cpu_features()
    if not (known.get("amx-tile", False) and known.get("amx-bf16", False)):
        return False
    allow = getattr(torch.cpu, "_init_amx", None)  # Linux wants to be asked for the memory of the tiles
    return allow is not None and bool(allow())


@cache
def tile_shapes() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What the units are told of the tiles: palette 1, eight tiles of 16 rows of 64 bytes."""
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1
    shapes[16:32].view(np.uint16)[:] = _ROW_BYTES
    shapes[48:56] = ROWS_OF_TILE
    return shapes


def tiled_weight(weight: torch.Tensor) -> torch.Tensor:
    """Lay out the right factor, ``(out, lines, length)``, in tiles, panel by panel of :data:`BLOCK` outputs.

    Returns bfloat16 ``(panels, lines, steps, 2, 16, 16, 2)``, filled up with zeros: of a line's ``steps`` of
    :data:`BLOCK` numbers, pairs of numbers side by side, as the units want them.
    """
    out, _, length = weight.shape
    filled = functional.pad(weight.bfloat16(), (0, -length % BLOCK, 0, 0, 0, -out % BLOCK))
    panels, lines, steps = filled.shape[0] // BLOCK, filled.shape[1], filled.shape[2] // BLOCK
    pairs = filled.view(panels, 2, ROWS_OF_TILE, lines, steps, ROWS_OF_TILE, 2)
    return pairs.permute(0, 3, 4, 1, 5, 2, 6).contiguous()


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


_SUMS, _LEFT, _RIGHT = (0, 1, 2, 3), (4, 5), (6, 7)  # tiles


@intrinsic
def clear_sums(typing_context: Any) -> Any:
    """Begin a block of 32 x 32 sums."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for tile in _SUMS:
            _call(builder, "tilezero", _BYTE(tile))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def add_products(typing_context: Any, first: Any, second: Any, stride: Any, steps: Any, weight: Any) -> Any:
    """Multiply 32 rows by ``steps`` steps of a panel of :func:`tiled_weight`, all given by address, and add to the sums.

    ``first`` and ``second``: where 16 rows each begin, ``stride`` bytes from row to row.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        first, second, stride, steps, weight = values
        with cgutils.for_range(builder, steps) as loop:
            place = builder.mul(loop.index, _LONG(_ROW_BYTES))
            tile = builder.add(weight, builder.mul(loop.index, _LONG(STEP_BYTES)))
            rows = [_pointer(builder, builder.add(each, place)) for each in (first, second)]
            _load(builder, _RIGHT[0], _pointer(builder, tile), _LONG(_ROW_BYTES))
            _load(builder, _LEFT[0], rows[0], stride)
            _add_product(builder, _SUMS[0], _LEFT[0], _RIGHT[0])
            _load(builder, _RIGHT[1], _pointer(builder, tile, _TILE_BYTES), _LONG(_ROW_BYTES))
            _add_product(builder, _SUMS[1], _LEFT[0], _RIGHT[1])
            _load(builder, _LEFT[1], rows[1], stride)
            _add_product(builder, _SUMS[2], _LEFT[1], _RIGHT[0])
            _add_product(builder, _SUMS[3], _LEFT[1], _RIGHT[1])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def write_sums(typing_context: Any, out: Any) -> Any:
    """Write the sums to an address, float32 ``(32, 32)``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for tile in _SUMS:
            _call(
                builder, "tilestored64", _BYTE(tile), _place_of_sums(builder, tile, values[0]), _LONG(BLOCK * 4)
            )
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _place_of_sums(builder: Any, tile: int, address: Any) -> Any:
    row, column = divmod(tile, 2)
    return _pointer(builder, address, row * ROWS_OF_TILE * BLOCK * 4 + column * _ROW_BYTES)


def _load(builder: Any, tile: int, place: Any, stride: Any) -> None:
    _call(builder, "tileloadd64", _BYTE(tile), place, stride)


def _add_product(builder: Any, sums: int, left: int, right: int) -> None:
    _call(builder, "tdpbf16ps", _BYTE(sums), _BYTE(left), _BYTE(right))
