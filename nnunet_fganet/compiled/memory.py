"""Whole stretches of memory in compiled loops, by address; the caller knows that they are there."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTES, _SIZE, _BIT = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(1)


@intrinsic
def copy_bytes(typing_context: Any, to: Any, given: Any, count: Any) -> Any:
    """Copy ``count`` bytes from one address to another; the two do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, given, count = values
        places = [builder.inttoptr(each, _BYTES) for each in (to, given)]
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES, _SIZE, _BIT])
        copy = cgutils.get_or_insert_function(builder.module, kind, "llvm.memcpy.p0.p0.i64")
        builder.call(copy, [*places, count, _BIT(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def clear_bytes(typing_context: Any, to: Any, count: Any) -> Any:
    """Write ``count`` zero bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, count = values
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, ir.IntType(8), _SIZE, _BIT])
        clear = cgutils.get_or_insert_function(builder.module, kind, "llvm.memset.p0.i64")
        builder.call(clear, [builder.inttoptr(to, _BYTES), ir.IntType(8)(0), count, _BIT(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def fetch_to_write(typing_context: Any, place: Any) -> Any:
    """Ask for the memory at an address, which will be written to soon; it may lie outside of everything."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, *[number] * 3])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        write, locality, data = number(1), number(3), number(1)
        builder.call(prefetch, [builder.inttoptr(values[0], _BYTES), write, locality, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate
