"""Sixteen float32 numbers at a time in compiled loops: what a register of AVX-512 holds, or a few smaller ones.

Before a loop works in vectors, it tests whether what it writes overlaps with what it reads: with many arrays of a few
dozen numbers that takes longer than the loop. Vectors that are written down need no such test.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel
from numba.extending import intrinsic, overload, register_model

from nnunet_fganet.compiled.decorators import ARITHMETIC

LANES = 16
_FLOAT, _INDEX = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(_FLOAT, LANES)
_FLAGS = tuple(sorted(ARITHMETIC))
_FLOAT_BYTES = 4
ROWS = types.Array(types.float32, 2, "C")  # what numbers are read from and written to


class Lanes(types.Type):
    """Numba's type of sixteen float32 numbers; only compiled code holds values of it."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


_LANES = Lanes()


@register_model(Lanes)
class _LanesModel(PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, VECTOR)


@intrinsic
def load(typing_context: Any, array: Any, row: Any, column: Any) -> tuple[Any, Any] | None:
    """Read sixteen numbers in a row of a contiguous float32 array of two dimensions, from ``column`` on."""
    if array != ROWS:
        return None  # Numba says that it has no such function

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(address(context, builder, *values), align=_FLOAT_BYTES)

    return _LANES(array, types.intp, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, row: Any, column: Any, lanes: Any) -> tuple[Any, Any] | None:
    """Write sixteen numbers into a row of such an array, from ``column`` on."""
    if array != ROWS:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        *place, lanes = values
        builder.store(lanes, address(context, builder, *place), align=_FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, _LANES), generate


@intrinsic
def zeros(typing_context: Any) -> tuple[Any, Any]:
    """Sixteen zeros."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(VECTOR, None)

    return _LANES(), generate


@intrinsic
def leaky_relu(typing_context: Any, lanes: Any, slope: Any) -> tuple[Any, Any]:
    """Numbers above zero, and ``slope`` times the others."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        numbers, slope = values
        is_above = builder.fcmp_ordered(">", numbers, ir.Constant(VECTOR, None))
        return builder.select(is_above, numbers, builder.fmul(numbers, broadcast(builder, slope)))

    return _LANES(_LANES, types.float32), generate


@intrinsic
def _sum(typing_context: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return _LANES(a, b), lambda context, builder, signature, values: builder.fadd(*values, flags=_FLAGS)


@intrinsic
def _difference(typing_context: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return _LANES(a, b), lambda context, builder, signature, values: builder.fsub(*values, flags=_FLAGS)


@intrinsic
def _multiple(typing_context: Any, factor: Any, lanes: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        factor, lanes = values
        return builder.fmul(broadcast(builder, factor), lanes, flags=_FLAGS)

    return _LANES(types.float32, _LANES), generate


# Numba wants the parameters of an overload and of its implementation written alike.


@overload(operator.add)
def _add(a: Any, b: Any) -> Callable[..., Any] | None:
    def add(a: Any, b: Any) -> Any:
        return _sum(a, b)

    return add if isinstance(a, Lanes) and isinstance(b, Lanes) else None


@overload(operator.sub)
def _subtract(a: Any, b: Any) -> Callable[..., Any] | None:
    def subtract(a: Any, b: Any) -> Any:
        return _difference(a, b)

    return subtract if isinstance(a, Lanes) and isinstance(b, Lanes) else None


@overload(operator.mul)
def _multiply(a: Any, b: Any) -> Callable[..., Any] | None:
    def multiply(a: Any, b: Any) -> Any:
        return _multiple(a, b)

    return multiply if a == types.float32 and isinstance(b, Lanes) else None


def address(context: Any, builder: Any, array: Any, row: Any, column: Any, count: int = LANES) -> Any:
    """Address of ``count`` numbers in a row of an array; both ends are checked where Numba is told to check."""
    array = context.make_array(ROWS)(context, builder, array)
    check = context.enable_boundscheck
    last = builder.add(column, column.type(count - 1))
    cgutils.get_item_pointer(context, builder, ROWS, array, [row, last], boundscheck=check)
    first = cgutils.get_item_pointer(context, builder, ROWS, array, [row, column], boundscheck=check)
    return first if count == 1 else builder.bitcast(first, VECTOR.as_pointer())


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` of vectors, rounded once where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=_FLAGS), c, flags=_FLAGS)


def broadcast(builder: Any, number: Any) -> Any:
    """Sixteen times the same number."""
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, _INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))
