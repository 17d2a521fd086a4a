"""The first few of sixteen numbers (:mod:`.lanes`): for channels that do not fill a vector."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnunet_fganet.compiled.lanes import ARRAYS, LANES, LANES_TYPE, NAMES, address, broadcast, narrowed, widened

_ALIGNMENT = ir.IntType(32)  # type of the number of bytes, in LLVM's functions


@intrinsic
def load_first(typing_context: Any, array: Any, row: Any, column: Any, count: Any) -> Any:
    """Read ``count`` numbers, at least one, of a row of a contiguous array of two dimensions; the others are 0."""
    if array not in ARRAYS:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows, row, column, count = values
        vector, size = ARRAYS[array]
        place, mask = _place_and_mask(context, builder, array, rows, row, column, count)
        given = place, _ALIGNMENT(size), mask, ir.Constant(vector, None)
        kind = ir.FunctionType(vector, [each.type for each in given])
        name = f"llvm.masked.load.v{LANES}{NAMES[str(vector.element)]}.p0"
        return widened(builder, builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given))

    return LANES_TYPE(array, types.intp, types.intp, types.intp), generate


@intrinsic
def store_first(typing_context: Any, array: Any, row: Any, column: Any, lanes: Any, count: Any) -> Any:
    """Write the first ``count`` of sixteen numbers, at least one, into a row of such an array, from ``column`` on."""
    if array not in ARRAYS:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows, row, column, lanes, count = values
        vector, size = ARRAYS[array]
        place, mask = _place_and_mask(context, builder, array, rows, row, column, count)
        given = narrowed(builder, lanes, vector), place, _ALIGNMENT(size), mask
        kind = ir.FunctionType(ir.VoidType(), [each.type for each in given])
        name = f"llvm.masked.store.v{LANES}{NAMES[str(vector.element)]}.p0"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, LANES_TYPE, types.intp), generate


def _place_and_mask(
    context: Any, builder: Any, array: Any, rows: Any, row: Any, column: Any, count: Any
) -> tuple[Any, Any]:
    """Address of the first number, and which of sixteen are meant; both ends are checked where Numba checks."""
    vector, _ = ARRAYS[array]
    address(context, builder, rows, row, builder.add(column, builder.sub(count, count.type(1))), 1, array)
    place = builder.bitcast(address(context, builder, rows, row, column, 1, array), vector.as_pointer())
    numbers = ir.Constant(ir.VectorType(count.type, LANES), list(range(LANES)))
    return place, builder.icmp_signed("<", numbers, broadcast(builder, count))
