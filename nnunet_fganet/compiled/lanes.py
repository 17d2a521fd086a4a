"""Sixteen float32 numbers at a time in compiled loops: what a register of AVX-512 holds, or a few smaller ones.

They are read from arrays of float32, bfloat16 or float16 (see :mod:`.half`), and written to such or to those of uint8.

Before a loop works in vectors, it tests whether what it writes overlaps with what it reads: with many arrays of a few
dozen numbers that takes longer than the loop. Vectors that are written down need no such test.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel
from numba.extending import intrinsic, overload, register_model

from nnunet_fganet.compiled.decorators import ARITHMETIC
from nnunet_fganet.compiled.half import LARGEST_FLOAT16, ONLY_WHOLE, within_float16

LANES = 16
COPIED = 8  # numbers that ``copy`` copies: of narrow images, what moves together are as few channels
COPIED_AT_ONCE = 32  # numbers of 16 bits that ``copy_many`` copies: a row of a tile
_FLOAT, _INDEX = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(_FLOAT, LANES)
_FLAGS = tuple(sorted(ARITHMETIC))
_HALVING = (8, 4, 2, 1)
BITS, HALF_BITS = (ir.VectorType(ir.IntType(bits), LANES) for bits in (32, 16))
ROWS = types.Array(types.float32, 2, "C")  # what numbers are read from and written to
_BFLOAT16_ROWS, FLOAT16_ROWS = (types.Array(kind, 2, "C") for kind in (types.uint16, types.int16))
_INTEGER_ROWS, BYTE_ROWS = (types.Array(kind, 2, "C") for kind in (types.int32, types.int8))
_HALVES, _WHOLE = ir.VectorType(ir.HalfType(), LANES), ir.VectorType(ir.IntType(8), LANES)
# Sixteen numbers in memory, and bytes of one.
ARRAYS = {ROWS: (VECTOR, 4), _BFLOAT16_ROWS: (HALF_BITS, 2), FLOAT16_ROWS: (_HALVES, 2)}
_WRITTEN = {**ARRAYS, types.Array(types.uint8, 2, "C"): (_WHOLE, 1)}
NAMES = {"float": "f32", "half": "f16", "i16": "i16"}  # of numbers, in those of LLVM's functions
_ROUNDS_BY_ITSELF = get_host_cpu_features().get("avx512bf16", False)


class Lanes(types.Type):
    """Numba's type of sixteen float32 numbers; only compiled code holds values of it."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


LANES_TYPE = Lanes()


@register_model(Lanes)
class _LanesModel(PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, VECTOR)


@intrinsic
def load_integers(typing_context: Any, array: Any, row: Any, column: Any) -> tuple[Any, Any] | None:
    """Read sixteen 32-bit integers, as float32, in a row of a contiguous array of two dimensions."""
    if array != _INTEGER_ROWS:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        numbers = builder.load(_address(context, builder, array, values, BITS), align=4)
        return builder.sitofp(numbers, VECTOR)

    return LANES_TYPE(array, types.intp, types.intp), generate


class _BFloat(ir.Type):
    """LLVM's ``bfloat``, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


@intrinsic
def load(typing_context: Any, array: Any, row: Any, column: Any) -> tuple[Any, Any] | None:
    """Read sixteen numbers in a row of a contiguous array of two dimensions, from ``column`` on."""
    if array not in ARRAYS:
        return None  # Numba says that it has no such function

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector, size = ARRAYS[array]
        numbers = builder.load(_address(context, builder, array, values, vector), align=size)
        return widened(builder, numbers)

    return LANES_TYPE(array, types.intp, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, row: Any, column: Any, lanes: Any) -> tuple[Any, Any] | None:
    """Write sixteen numbers into a row of such an array, or of one of uint8, from ``column`` on."""
    if array not in _WRITTEN:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        *place, lanes = values
        vector, size = _WRITTEN[array]
        builder.store(narrowed(builder, lanes, vector), _address(context, builder, array, place, vector), align=size)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, LANES_TYPE), generate


def _copying(count: int) -> Callable[..., tuple[Any, Any] | None]:
    """Copying ``count`` numbers of a row of such an array, from ``column`` on, into a row of another like it."""

    def intrinsic_of(
        typing_context: Any, rows: Any, row: Any, column: Any, out: Any, out_row: Any, out_column: Any
    ) -> tuple[Any, Any] | None:
        if rows not in ARRAYS or out != rows:
            return None

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            numbers, size = ARRAYS[rows]
            vector = ir.VectorType(numbers.element, count).as_pointer()
            source, target = (
                builder.bitcast(address(context, builder, array, row, column, count, rows), vector)
                for array, row, column in (values[:3], values[3:])
            )
            builder.store(builder.load(source, align=size), target, align=size)
            return context.get_dummy_value()

        return types.void(rows, types.intp, types.intp, out, types.intp, types.intp), generate

    return intrinsic_of


copy, copy_many = intrinsic(_copying(COPIED)), intrinsic(_copying(COPIED_AT_ONCE))


def widened(builder: Any, numbers: Any) -> Any:
    """Numbers of an array as float32."""
    if numbers.type == VECTOR:
        return numbers
    if numbers.type == _HALVES:
        return builder.fpext(numbers, VECTOR)
    return builder.bitcast(builder.shl(builder.zext(numbers, BITS), _constant(BITS, 16)), VECTOR)


def narrowed(builder: Any, lanes: Any, vector: Any) -> Any:
    """Round to nearest, ties to even; see :func:`.half.narrow`."""
    if vector == VECTOR:
        return lanes
    if vector == _HALVES:
        return builder.fptrunc(within_float16(builder, lanes, _constant(VECTOR, LARGEST_FLOAT16)), _HALVES)
    if vector == _WHOLE:
        moved = builder.fadd(lanes, _constant(VECTOR, ONLY_WHOLE))
        return builder.trunc(builder.bitcast(moved, BITS), _WHOLE)
    if _ROUNDS_BY_ITSELF:
        return builder.bitcast(builder.fptrunc(lanes, ir.VectorType(_BFloat(), LANES)), HALF_BITS)
    bits, shift = builder.bitcast(lanes, BITS), _constant(BITS, 16)
    odd = builder.and_(builder.lshr(bits, shift), _constant(BITS, 1))
    rounded = builder.add(bits, builder.add(odd, _constant(BITS, 0x7FFF)))
    return builder.trunc(builder.lshr(rounded, shift), HALF_BITS)


def _constant(vector: Any, number: Any) -> Any:
    """Sixteen times the same number; or that number, for numbers that are alone."""
    return ir.Constant(vector, [number] * LANES) if isinstance(vector, ir.VectorType) else ir.Constant(vector, number)


@intrinsic
def zeros(typing_context: Any) -> tuple[Any, Any]:
    """Sixteen zeros."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(VECTOR, None)

    return LANES_TYPE(), generate


@intrinsic
def leaky_relu(typing_context: Any, lanes: Any, slope: Any) -> tuple[Any, Any]:
    """Numbers above zero, and ``slope`` times the others."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        numbers, slope = values
        is_above = builder.fcmp_ordered(">", numbers, ir.Constant(VECTOR, None))
        return builder.select(is_above, numbers, builder.fmul(numbers, broadcast(builder, slope)))

    return LANES_TYPE(LANES_TYPE, types.float32), generate


@intrinsic
def leaky_slope(typing_context: Any, lanes: Any, slope: Any) -> tuple[Any, Any]:
    """Slope of :func:`leaky_relu`: 1 for numbers above zero, and ``slope`` for the others."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        numbers, slope = values
        is_above = builder.fcmp_ordered(">", numbers, ir.Constant(VECTOR, None))
        return builder.select(is_above, _constant(VECTOR, 1), broadcast(builder, slope))

    return LANES_TYPE(LANES_TYPE, types.float32), generate


@intrinsic
def kept(typing_context: Any, lanes: Any, levels: Any, column: Any, dropped: Any) -> tuple[Any, Any] | None:
    """Those of sixteen numbers whose levels, in an array ``(1, numbers)`` of uint16, reach ``dropped``; else 0."""
    if levels != _BFLOAT16_ROWS:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lanes, levels_, column, dropped = values
        place = _address(context, builder, levels, (levels_, column.type(0), column), HALF_BITS)
        reach = builder.icmp_unsigned(">=", builder.load(place, align=2), broadcast(builder, dropped))
        return builder.select(reach, lanes, ir.Constant(VECTOR, None))

    return LANES_TYPE(LANES_TYPE, levels, types.intp, types.uint16), generate


def _operation(name: str) -> Callable[..., tuple[Any, Any]]:
    """Arithmetic of two operands, of which one may be a single number; ``name`` is the builder's."""

    def intrinsic_of(typing_context: Any, a: Any, b: Any) -> tuple[Any, Any]:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            left, right = (
                value if isinstance(kind, Lanes) else broadcast(builder, value)
                for kind, value in zip((a, b), values, strict=True)
            )
            return getattr(builder, name)(left, right, flags=_FLAGS)

        return LANES_TYPE(a, b), generate

    return intrinsic_of


_sum, _difference, _multiple, _quotient = (intrinsic(_operation(name)) for name in ("fadd", "fsub", "fmul", "fdiv"))


def _are_operands(a: Any, b: Any) -> bool:
    kinds = [isinstance(each, Lanes) for each in (a, b)]
    return any(kinds) and all(is_lanes or each == types.float32 for is_lanes, each in zip(kinds, (a, b), strict=True))


# Numba wants the parameters of an overload and of its implementation written alike.


@overload(operator.add)
def _add(a: Any, b: Any) -> Callable[..., Any] | None:
    def add(a: Any, b: Any) -> Any:
        return _sum(a, b)

    return add if _are_operands(a, b) else None


@overload(operator.sub)
def _subtract(a: Any, b: Any) -> Callable[..., Any] | None:
    def subtract(a: Any, b: Any) -> Any:
        return _difference(a, b)

    return subtract if _are_operands(a, b) else None


@overload(operator.mul)
def _multiply(a: Any, b: Any) -> Callable[..., Any] | None:
    def multiply(a: Any, b: Any) -> Any:
        return _multiple(a, b)

    return multiply if _are_operands(a, b) else None


@overload(operator.truediv)
def _divide(a: Any, b: Any) -> Callable[..., Any] | None:
    def divide(a: Any, b: Any) -> Any:
        return _quotient(a, b)

    return divide if _are_operands(a, b) else None


@intrinsic
def bounded(typing_context: Any, x: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """``x``, one float32 or sixteen, between two bounds; NaN stays."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, *bounds = values
        for sign, bound in zip(("<", ">"), bounds, strict=True):
            limit = broadcast(builder, bound) if isinstance(signature.args[0], Lanes) else bound
            x = builder.select(builder.fcmp_ordered(sign, x, limit), limit, x)
        return x

    return x(x, types.float32, types.float32), generate


@intrinsic
def larger(typing_context: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Larger one of two float32 numbers, or of sixteen each; NaN where either is."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _larger(builder, *values)

    return a(a, a), generate


def _larger(builder: Any, a: Any, b: Any) -> Any:
    takes_first = builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a))
    return builder.select(takes_first, a, b)


@intrinsic
def lane_sum(typing_context: Any, lanes: Any) -> tuple[Any, Any]:
    """Sum of sixteen numbers."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (lanes,) = values
        for step in _HALVING:
            lanes = builder.fadd(lanes, _turned(builder, lanes, step), flags=_FLAGS)
        return builder.extract_element(lanes, _INDEX(0))

    return types.float32(LANES_TYPE), generate


def _turned(builder: Any, lanes: Any, step: int) -> Any:
    order = ir.Constant(ir.VectorType(_INDEX, LANES), [(k + step) % LANES for k in range(LANES)])
    return builder.shuffle_vector(lanes, lanes, order)


@intrinsic
def rounded_down(typing_context: Any, x: Any) -> tuple[Any, Any]:
    """Largest whole number that is no larger, of one float32 or of sixteen."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = values[0].type
        name = "llvm.floor.v16f32" if isinstance(kind, ir.VectorType) else "llvm.floor.f32"
        floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
        return builder.call(floor, values)

    return x(x), generate


@intrinsic
def power_of_two(typing_context: Any, n: Any) -> tuple[Any, Any]:
    """``2 ** n`` of whole numbers between -126 and 127, of one float32 or of sixteen."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = values[0].type
        bits = BITS if isinstance(kind, ir.VectorType) else ir.IntType(32)
        exponent = builder.add(builder.fptosi(values[0], bits), _constant(bits, 127))
        return builder.bitcast(builder.shl(exponent, _constant(bits, 23)), kind)

    return n(n), generate


def _address(context: Any, builder: Any, kind: Any, place: Any, vector: Any) -> Any:
    """Address of sixteen numbers of an array of this kind."""
    array, row, column = place
    return builder.bitcast(address(context, builder, array, row, column, kind=kind), vector.as_pointer())


def address(
    context: Any, builder: Any, array: Any, row: Any, column: Any, count: int = LANES, kind: types.Array = ROWS
) -> Any:
    """Address of ``count`` numbers in a row of an array; both ends are checked where Numba is told to check."""
    array = context.make_array(kind)(context, builder, array)
    check = context.enable_boundscheck
    last = builder.add(column, column.type(count - 1))
    cgutils.get_item_pointer(context, builder, kind, array, [row, last], boundscheck=check)
    first = cgutils.get_item_pointer(context, builder, kind, array, [row, column], boundscheck=check)
    return first if count == 1 else builder.bitcast(first, VECTOR.as_pointer())


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` of vectors, rounded once where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=_FLAGS), c, flags=_FLAGS)


def broadcast(builder: Any, number: Any, count: int = LANES) -> Any:
    """``count`` times the same number."""
    nothing = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
    first = builder.insert_element(nothing, number, _INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, count), [0] * count))
