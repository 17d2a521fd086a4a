"""Numbers of float16 or float32 as 16-bit integers of two bytes, 64 at a time, in compiled loops.

Arrays of float16 hold the bits, as signed integers (:mod:`.half`). Processors with AVX512-FP16 compute with 32 numbers
of float16 at once; for others LLVM widens them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled
from nnunet_fganet.compiled.half import widen
from nnunet_fganet.compiled.lanes import BYTE_ROWS, FLOAT16_ROWS, ROWS, VECTOR, address, broadcast

NUMBERS_AT_A_TIME = 64
LARGEST = 127 * 256 + 127  # of the integers: both of their bytes are signed
_LARGEST_EXPONENT = 15  # of float16, and of the integers
_SMALLEST = np.float32(2.0**-100)  # of what float32 numbers up to it can be scaled by
_SHORTS = ir.VectorType(ir.IntType(16), NUMBERS_AT_A_TIME // 2)
_BYTES = ir.VectorType(ir.IntType(8), NUMBERS_AT_A_TIME)
# What a register holds of the numbers of an array, the same as bits, and bytes of one.
_REGISTERS = {
    FLOAT16_ROWS: (ir.VectorType(ir.HalfType(), _SHORTS.count), _SHORTS, 2),
    ROWS: (VECTOR, ir.VectorType(ir.IntType(32), VECTOR.count), 4),
}
Array = NDArray[Any]


@compiled
def largest_magnitude(image: Array, top: int, bottom: int, start: int, stop: int, found: Array) -> Any:
    """Largest absolute value, float32, of columns of some rows; NaN where one of them is.

    ``found`` ``(1, 64)``, of the kind of ``image``, is for what is found on the way.
    """
    found[:] = 0
    tail = stop - (stop - start) % NUMBERS_AT_A_TIME
    for i in range(top, bottom):
        for x in range(start, tail, NUMBERS_AT_A_TIME):
            _raise_magnitudes(image, i, x, found)
        for x in range(tail, stop):
            _raise_magnitude(image, i, x, found)
    return widen(found.max())  # the bits of numbers above zero are in the order of the numbers


@compiled
def factors_of_float16(largest: Any) -> tuple[Any, Any, Any]:
    """Two factors by which numbers up to ``largest`` become integers up to :data:`LARGEST`, and what 1 stands for then.

    Powers of two, between 2 ** -2 and 2 ** 30 together, so that nothing is rounded before it is an integer; each is a
    number of float16.
    """
    fraction, exponent = math.frexp(largest)
    fits = fraction * 2**_LARGEST_EXPONENT <= LARGEST
    power = min(_LARGEST_EXPONENT - exponent - (0 if fits else 1), 2 * _LARGEST_EXPONENT)
    first, second = math.ldexp(1.0, min(power, _LARGEST_EXPONENT)), math.ldexp(1.0, max(power - _LARGEST_EXPONENT, 0))
    return np.float32(first), np.float32(second), np.float32(math.ldexp(1.0, -power))


@compiled
def factors_of_float32(largest: Any) -> tuple[Any, Any, Any]:
    """The same for numbers of float32, of which the largest becomes :data:`LARGEST`; the second factor is 1."""
    largest = max(largest, _SMALLEST)
    return np.float32(LARGEST) / largest, np.float32(1), largest / np.float32(LARGEST)


FACTORS = {torch.float16: factors_of_float16, torch.float32: factors_of_float32}


@compiled
def write_integers(image: Array, row: int, start: int, stop: int, first: Any, second: Any, out: Array, to: int) -> None:
    """Round columns of a row, times two factors, to integers of two bytes.

    ``out`` ``(2, numbers)``, int8: high bytes and low ones, written from ``to`` on. An integer is ``256 * high + low``
    with ``low`` between -128 and 127. The factors are of :data:`FACTORS`.
    """
    tail = stop - (stop - start) % NUMBERS_AT_A_TIME
    for x in range(start, tail, NUMBERS_AT_A_TIME):
        _write_bytes(image, row, x, first, second, out, to + x - start)
    for x in range(tail, stop):
        number = np.int32(np.rint(widen(image[row, x]) * first * second))
        out[0, to + x - start], out[1, to + x - start] = high_and_low(number)


@compiled
def high_and_low(number: Any) -> tuple[Any, Any]:
    """Two bytes, of which the low one is between -128 and 127, of an integer up to :data:`LARGEST`."""
    raised = number + np.int32(128)
    return np.int8(raised >> 8), np.int8((raised & np.int32(255)) - np.int32(128))


def _raising(count: int) -> Callable[..., Any]:
    def intrinsic_of(typing_context: Any, image: Any, row: Any, column: Any, found: Any) -> Any:
        if image not in _REGISTERS or image != found:
            return None  # Numba says that it has no such function

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            image_, row, column, found_ = values
            _, bits, size = _REGISTERS[image]
            bits = ir.VectorType(bits.element, min(count, bits.count))
            without_sign = _each(bits, 2 ** (8 * size - 1) - 1)
            nothing = column.type(0)
            given = _places(context, builder, image, (image_, row, column), bits, count)
            kept = _places(context, builder, image, (found_, nothing, nothing), bits, count)
            for number, place in zip(given, kept, strict=True):
                magnitude = builder.and_(builder.load(number, align=size), without_sign)
                before = builder.load(place, align=size)
                is_larger = builder.icmp_signed(">", magnitude, before)
                builder.store(builder.select(is_larger, magnitude, before), place, align=size)
            return context.get_dummy_value()

        return types.void(image, types.intp, types.intp, found), generate

    return intrinsic_of


# Keep the larger ones of numbers of ``found`` and the magnitudes of as many numbers of a row.
_raise_magnitudes, _raise_magnitude = (intrinsic(_raising(count)) for count in (NUMBERS_AT_A_TIME, 1))


@intrinsic
def _write_bytes(
    typing_context: Any, image: Any, row: Any, column: Any, first: Any, second: Any, out: Any, to: Any
) -> Any:
    """See :func:`write_integers`: 64 numbers, times two factors."""
    if image not in _REGISTERS or out != BYTE_ROWS:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        image_, row, column, first, second, out, to = values
        numbers, _, size = _REGISTERS[image]
        places = _places(context, builder, image, (image_, row, column), numbers, NUMBERS_AT_A_TIME)
        integers = [_integers(builder, builder.load(each, align=size), (first, second)) for each in places]
        if len(integers) > 2:
            order = _each(ir.VectorType(ir.IntType(32), _SHORTS.count), range(_SHORTS.count))
            pairs = zip(integers[::2], integers[1::2], strict=True)
            integers = [builder.shuffle_vector(*pair, order) for pair in pairs]
        low = [builder.bitcast(each, _BYTES) for each in integers]
        high = [builder.bitcast(builder.add(each, _each(_SHORTS, 128)), _BYTES) for each in integers]
        for line, pair, byte in ((0, high, 1), (1, low, 0)):  # the low byte of an integer is that of its remainder
            order = _each(ir.VectorType(ir.IntType(32), _BYTES.count), range(byte, 2 * NUMBERS_AT_A_TIME, 2))
            place = address(context, builder, out, to.type(line), to, NUMBERS_AT_A_TIME, BYTE_ROWS)
            builder.store(builder.shuffle_vector(*pair, order), builder.bitcast(place, _BYTES.as_pointer()), align=1)
        return context.get_dummy_value()

    given = types.intp, types.intp, types.float32, types.float32
    return types.void(image, *given, out, types.intp), generate


def _integers(builder: Any, numbers: Any, factors: tuple[Any, Any]) -> Any:
    """Numbers of a register, times two factors, rounded to 16 bits."""
    kind = numbers.type
    for factor in factors[:1] if kind == VECTOR else factors:
        factor = builder.fptrunc(factor, kind.element) if kind != VECTOR else factor
        numbers = builder.fmul(numbers, broadcast(builder, factor, kind.count))
    name = f"llvm.rint.v{kind.count}{'f32' if kind == VECTOR else 'f16'}"
    round_ = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
    rounded = builder.call(round_, [numbers])
    if kind == VECTOR:  # by way of 32 bits, which processors have an instruction for
        integers = builder.fptosi(rounded, ir.VectorType(ir.IntType(32), kind.count))
        return builder.trunc(integers, ir.VectorType(_SHORTS.element, kind.count))
    return builder.fptosi(rounded, _SHORTS)


def _places(context: Any, builder: Any, kind: Any, place: Any, vector: Any, count: int) -> list[Any]:
    """Addresses of ``count`` numbers of an array, a vector each."""
    array, row, column = place
    columns = [builder.add(column, column.type(first)) for first in range(0, count, vector.count)]
    places = [address(context, builder, array, row, each, vector.count, kind) for each in columns]
    return [builder.bitcast(each, vector.as_pointer()) for each in places]


def _each(vector: Any, numbers: int | range) -> Any:
    return ir.Constant(vector, [numbers] * vector.count if isinstance(numbers, int) else list(numbers))
