"""Numbers of 16 bits in compiled loops: arrays hold the bits, as unsigned integers of bfloat16, signed ones of float16.

A loop that widens what it reads and narrows what it writes serves arrays of float32 as well, whose
numbers these functions leave as they are. It may write arrays of uint8, too: whole numbers.
"""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nnunet_fganet.compiled.threads import check_array

NUMBERS = {torch.float32: np.float32, torch.bfloat16: np.uint16, torch.float16: np.int16}  # what arrays of these hold
LARGEST_FLOAT16 = 65504.0
# Where float32 holds whole numbers only: the last byte of a number between 0 and 255 plus this is that number, rounded.
ONLY_WHOLE = 1.5 * 2**23
_BITS, _HALF_BITS, _BYTE = ir.IntType(32), ir.IntType(16), ir.IntType(8)


def check_numbers(name: str, tensor: torch.Tensor, *shape: int) -> None:
    """Refuse what a loop over arrays of any of :data:`NUMBERS` cannot read; see :func:`.threads.check_array`.

    Raises
    ------
    ValueError
        The tensor is of another number format or shape, or not contiguous, or not in the processor's memory.
    """
    check_array(name, tensor, tensor.dtype if tensor.dtype in NUMBERS else torch.float32, *shape)


@intrinsic
def widen(typing_context: Any, number: Any) -> tuple[Any, Any]:
    """Value of a number of an array, float32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (bits,) = values
        if number == types.float32:
            return bits
        if number == types.int16:
            return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())
        return builder.bitcast(builder.shl(builder.zext(bits, _BITS), _BITS(16)), ir.FloatType())

    return types.float32(number), generate


@intrinsic
def narrow(typing_context: Any, value: Any, like: Any) -> tuple[Any, Any]:
    """Number for an array whose numbers are ``like`` this one: rounded to nearest, ties to even, NaN stays NaN.

    What is too large for float16 becomes its largest number: infinities would make NaN of a whole image. For uint8
    numbers have to be between 0 and 255; NaN becomes 0.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if like == types.float32:
            return values[0]
        if like == types.int16:
            kept = within_float16(builder, values[0], ir.Constant(ir.FloatType(), LARGEST_FLOAT16))
            return builder.bitcast(builder.fptrunc(kept, ir.HalfType()), _HALF_BITS)
        if like == types.uint8:
            moved = builder.fadd(values[0], ir.Constant(ir.FloatType(), ONLY_WHOLE))
            return builder.trunc(builder.bitcast(moved, _BITS), _BYTE)
        bits = builder.bitcast(values[0], _BITS)
        odd = builder.and_(builder.lshr(bits, _BITS(16)), _BITS(1))
        rounded = builder.add(bits, builder.add(odd, _BITS(0x7FFF)))
        return builder.trunc(builder.lshr(rounded, _BITS(16)), _HALF_BITS)

    return like(types.float32, like), generate


def within_float16(builder: Any, value: Any, largest: Any) -> Any:
    """``value``, one or sixteen numbers, between minus ``largest`` and ``largest``; NaN stays."""
    value = builder.select(builder.fcmp_ordered(">", value, largest), largest, value)
    smallest = builder.fneg(largest)
    return builder.select(builder.fcmp_ordered("<", value, smallest), smallest, value)
