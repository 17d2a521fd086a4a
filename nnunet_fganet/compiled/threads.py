"""Compiled loops in the threads that torch computes with.

A thread pool of its own would share the cores with torch's threads, which spin for milliseconds after
each operation in wait for the next one. torch's threads belong to an OpenMP runtime; its entry point
for compiled code (``GOMP_parallel`` of libgomp's ABI, which LLVM's and Intel's runtimes have too) takes
the address of a function that Numba has compiled.

A loop is a function of a number, its *part*: every thread takes the next part until none is left::

    part = next_part(data)
    while part < parts(data):
        ...
        finish_part(data)
        part = next_part(data)
"""

import ctypes
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic
from threadpoolctl import threadpool_info

from nnunet_fganet.compiled.decorators import compiled

_COUNTERS = 3  # numbers at the beginning of a loop's data: the next part, how many parts there are, and are done
_NEXT, _COUNT, _DONE = range(_COUNTERS)


def run_parts(loop: Any, count: int, *given: int | float) -> None:
    """Run a compiled loop over its parts, on as many threads as torch uses here.

    Parameters
    ----------
    loop
        ``numba.cfunc`` of signature ``void(voidptr)``, which takes parts from its data with :func:`next_part`
        until all of :func:`parts` are taken, and reads the rest with :func:`arguments`.
    count
        How many parts there are.
    given
        Sizes and addresses of arrays, which the caller keeps alive, as 64-bit integers; floats as 64-bit floats.

    Raises
    ------
    MemoryError
        A thread did not come to the end of its part. What goes wrong in a compiled function, Numba only prints; that
        is memory that it does not get.
    """
    kinds = "".join("d" if isinstance(each, float) else "q" for each in given)
    data = ctypes.create_string_buffer(struct.pack(f"=qqq{kinds}", 0, count, 0, *given))
    threads = max(1, min(torch.get_num_threads(), count))
    if threads == 1:
        loop.ctypes(ctypes.addressof(data))
    else:
        _team()(loop.address, ctypes.addressof(data), threads)
    done = struct.unpack_from("=q", data, 8 * _DONE)[0]
    if done != count:
        raise MemoryError(f"a compiled loop did {done} of its {count} parts: there was not enough memory for the rest")


def check_array(name: str, tensor: torch.Tensor, dtype: torch.dtype, *shape: int) -> None:
    """Refuse what a loop would read or write outside of: it is given an address and believes the sizes.

    Raises
    ------
    ValueError
        The tensor is of another number format or shape, or not contiguous, or not in the processor's memory.
    """
    fits = tensor.dtype == dtype and tuple(tensor.shape) == shape
    if not (fits and tensor.is_contiguous() and tensor.device.type == "cpu"):
        raise ValueError(
            f"{name} must be contiguous {dtype} of shape {shape} on the CPU, not {tensor.dtype} of shape "
            f"{tuple(tensor.shape)} and strides {tensor.stride()} on {tensor.device}"
        )


@intrinsic
def _add_one(typing_context: Any, data: Any, counter: Any) -> tuple[Any, Any]:
    """Add 1 to one of a loop's counters, and return what it was before: no other thread gets the same number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        counters = builder.bitcast(values[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw(
            "add", builder.gep(counters, [values[1]]), ir.Constant(ir.IntType(64), 1), "monotonic"
        )

    return types.int64(types.voidptr, types.int64), generate


@compiled
def next_part(data: Any) -> int:
    """Take the next part of a loop from its data: the number that no other thread takes."""
    return _add_one(data, _NEXT)


@compiled
def finish_part(data: Any) -> None:
    """Note that a part is done."""
    _add_one(data, _DONE)


@compiled
def parts(data: Any) -> int:
    """How many parts a loop has, from its data."""
    return carray(data, _COUNTERS, np.int64)[_COUNT]


@compiled
def arguments(data: Any, count: int) -> Any:
    """What :func:`run_parts` was given, from a loop's data, as 64-bit integers."""
    return carray(data, _COUNTERS + count, np.int64)[_COUNTERS:]


@compiled
def float_arguments(data: Any, count: int) -> Any:
    """The same as 64-bit floats."""
    return carray(data, _COUNTERS + count, np.float64)[_COUNTERS:]


@intrinsic
def pointer(typing_context: Any, address: Any) -> tuple[Any, Any]:
    """Turn an address into a pointer, for ``numba.carray``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@cache
def _team() -> Callable[[int, int, int], None]:
    """Call a function, given by address, with the address of its data, on some threads at once."""
    runtime = _openmp_runtime()
    if runtime is None:
        return _plain_threads
    gomp_parallel = ctypes.CDLL(runtime).GOMP_parallel
    gomp_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    gomp_parallel.restype = None
    return lambda function, data, threads: gomp_parallel(function, data, threads, 0)


def _openmp_runtime() -> str | None:
    """File of the OpenMP runtime that torch has loaded, if it is known and speaks libgomp's ABI."""
    loaded = [Path(library["filepath"]).resolve() for library in threadpool_info() if library["user_api"] == "openmp"]
    bundled = [path for path in loaded if Path(torch.__file__).resolve().parent in path.parents]
    candidates = bundled or loaded
    if len(candidates) != 1 or not hasattr(ctypes.CDLL(str(candidates[0])), "GOMP_parallel"):
        return None
    return str(candidates[0])


def _plain_threads(function: int, data: int, threads: int) -> None:
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(call, [data] * threads):
            pass
