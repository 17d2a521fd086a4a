"""Numbers of float16 as 16-bit integers of two bytes, 64 at a time, in compiled loops.

Arrays of float16 hold the bits, as signed integers (:mod:`.half`). Processors with AVX512-FP16 compute with 32 numbers
of float16 at once; for others LLVM widens them.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled
from nnunet_fganet.compiled.half import widen
from nnunet_fganet.compiled.lanes import BYTE_ROWS, FLOAT16_ROWS, address, broadcast

NUMBERS_AT_A_TIME = 64
LARGEST = 127 * 256 + 127  # of the integers: both of their bytes are signed
_HALF = NUMBERS_AT_A_TIME // 2  # of them, in a register
_HALVES, _SHORTS = ir.VectorType(ir.HalfType(), _HALF), ir.VectorType(ir.IntType(16), _HALF)
_BYTES = ir.VectorType(ir.IntType(8), NUMBERS_AT_A_TIME)
_MAGNITUDE = 0x7FFF  # the bits of a float16 number without its sign, which are in the order of the magnitudes
_LARGEST_EXPONENT = 15  # of float16
Array = NDArray[Any]


@compiled
def largest_magnitude(image: Array, top: int, bottom: int, start: int, stop: int, found: Array) -> Any:
    """Largest absolute value, float32, of columns of some rows of float16; NaN where one of them is.

    ``found`` ``(1, 64)``, int16, is for what is found on the way.
    """
    found[:] = 0
    tail = stop - (stop - start) % NUMBERS_AT_A_TIME
    for i in range(top, bottom):
        for x in range(start, tail, NUMBERS_AT_A_TIME):
            _raise_magnitudes(image, i, x, found)
        for x in range(tail, stop):
            found[0, 0] = max(found[0, 0], image[i, x] & np.int16(_MAGNITUDE))
    return widen(found.max())


@compiled
def exponent_of_integers(largest: Any) -> int:
    """Power of two by which numbers up to ``largest`` become integers up to :data:`LARGEST`, between -2 and 30."""
    fraction, exponent = math.frexp(largest)
    fits = fraction * 2**_LARGEST_EXPONENT <= LARGEST
    return min(_LARGEST_EXPONENT - exponent - (0 if fits else 1), 2 * _LARGEST_EXPONENT)


@compiled
def write_integers(image: Array, row: int, start: int, stop: int, exponent: int, out: Array, to: int) -> None:
    """Round columns of a row of float16, times a power of two, to integers of two bytes.

    ``out`` ``(2, numbers)``, int8: high bytes and low ones, written from ``to`` on. An integer is ``256 * high + low``
    with ``low`` between -128 and 127.
    """
    first = np.float32(math.ldexp(1.0, min(exponent, _LARGEST_EXPONENT)))
    second = np.float32(math.ldexp(1.0, max(exponent - _LARGEST_EXPONENT, 0)))
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


@intrinsic
def _raise_magnitudes(typing_context: Any, image: Any, row: Any, column: Any, found: Any) -> Any:
    """Keep the larger ones of 64 numbers of ``found`` and the magnitudes of 64 of a row."""
    if not image == found == FLOAT16_ROWS:
        return None  # Numba says that it has no such function

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        image, row, column, found = values
        nothing = column.type(0)
        given = _load_pair(context, builder, (image, row, column), _SHORTS)
        places = _pair_places(context, builder, (found, nothing, nothing), _SHORTS)
        for number, place in zip(given, places, strict=True):
            magnitude, before = builder.and_(number, _each(_SHORTS, _MAGNITUDE)), builder.load(place, align=2)
            is_larger = builder.icmp_signed(">", magnitude, before)
            builder.store(builder.select(is_larger, magnitude, before), place, align=2)
        return context.get_dummy_value()

    return types.void(image, types.intp, types.intp, found), generate


@intrinsic
def _write_bytes(
    typing_context: Any, image: Any, row: Any, column: Any, first: Any, second: Any, out: Any, to: Any
) -> Any:
    """See :func:`write_integers`: 64 numbers, times two factors, each of which float16 can hold."""
    if image != FLOAT16_ROWS or out != BYTE_ROWS:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        image, row, column, first, second, out, to = values
        kind = ir.FunctionType(_HALVES, [_HALVES])
        round_ = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{_HALF}f16")
        low, high = [], []
        for numbers in _load_pair(context, builder, (image, row, column), _HALVES):
            for factor in (first, second):
                numbers = builder.fmul(numbers, broadcast(builder, builder.fptrunc(factor, ir.HalfType()), _HALF))
            integers = builder.fptosi(builder.call(round_, [numbers]), _SHORTS)
            low.append(builder.bitcast(integers, _BYTES))
            high.append(builder.bitcast(builder.add(integers, _each(_SHORTS, 128)), _BYTES))
        for line, pair, byte in ((0, high, 1), (1, low, 0)):  # the low byte of an integer is that of its remainder
            numbers = list(range(byte, 2 * NUMBERS_AT_A_TIME, 2))
            order = ir.Constant(ir.VectorType(ir.IntType(32), NUMBERS_AT_A_TIME), numbers)
            place = address(context, builder, out, to.type(line), to, NUMBERS_AT_A_TIME, BYTE_ROWS)
            builder.store(builder.shuffle_vector(*pair, order), builder.bitcast(place, _BYTES.as_pointer()), align=1)
        return context.get_dummy_value()

    given = types.intp, types.intp, types.float32, types.float32
    return types.void(image, *given, out, types.intp), generate


def _load_pair(context: Any, builder: Any, place: Any, vector: Any) -> list[Any]:
    return [builder.load(each, align=2) for each in _pair_places(context, builder, place, vector)]


def _pair_places(context: Any, builder: Any, place: Any, vector: Any) -> list[Any]:
    """Addresses of the two halves of 64 numbers of an array."""
    array, row, column = place
    columns = column, builder.add(column, column.type(_HALF))
    places = [address(context, builder, array, row, each, _HALF, FLOAT16_ROWS) for each in columns]
    return [builder.bitcast(each, vector.as_pointer()) for each in places]


def _each(vector: Any, number: int) -> Any:
    return ir.Constant(vector, [number] * vector.count)
