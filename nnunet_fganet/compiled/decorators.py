"""How this package compiles its loops with Numba.

What is compiled is kept for the next process in the user's cache folder: Numba's default, beside the
source, would leave files in ``site-packages`` that uninstalling does not know of. Where there is no
folder to write to, every process compiles for itself.
"""

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite.binding import get_host_cpu_name

ARITHMETIC = {"contract", "nsz"}  # products and sums in one step; NaN and infinity keep their meaning
_CHOOSING = threading.Lock()  # of numba.config.CACHE_DIR, which all threads share
_NEEDED_BYTES = 2**22  # of free space in the cache folder; all loops take about a quarter of that


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function that loops call."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=ARITHMETIC)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Make a function a part of what calls it: for what is called for a few pixels at a time, with arrays.

    LLVM inlines small functions of :func:`compiled` by itself; a call of a larger one takes some 50 ns for each array
    that it hands on. What is inlined has the caller's kind of arithmetic.
    """
    return numba.njit(nogil=True, error_model="numpy", inline="always")(function)


def loop(dtype: str) -> Callable[[Callable[[Any], None]], Any]:
    """Compile a loop for :func:`nnunet_fganet.compiled.threads.run_parts`, at once.

    ``dtype`` names what its arrays hold: loops of one source and several dtypes are kept apart by it.
    """

    def compile_loop(function: Callable[[Any], None]) -> Any:
        # Numba numbers the entries of one name without a lock: two processes that compile for two
        # dtypes at once could each keep their code under the other's number.
        function.__qualname__ += f"_{dtype}"
        with _cache() as keeps:
            return numba.cfunc("void(voidptr)", cache=keeps, error_model="numpy")(function)

    return compile_loop


@contextmanager
def _cache() -> Iterator[bool]:
    """Let Numba choose our cache folder for what is decorated meanwhile; yields whether there is one."""
    with _CHOOSING:
        chosen = numba.config.CACHE_DIR
        folder = _cache_folder(chosen)
        numba.config.CACHE_DIR = folder or chosen
        try:
            yield folder is not None
        finally:
            numba.config.CACHE_DIR = chosen


@cache
def _cache_folder(chosen: str) -> str | None:
    """Folder for what this version compiles on this processor, in ``chosen`` (``NUMBA_CACHE_DIR``) if that is given.

    Numba itself looks at a function's own file, not at those of the functions that it calls.
    """
    # Loops that check every index (NUMBA_BOUNDSCHECK) are slower: no other process should find them.
    version = hashlib.sha256(f"{get_host_cpu_name()} {numba.config.BOUNDSCHECK}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        version.update(source.read_bytes())
    try:
        parent = Path(chosen) if chosen else _user_caches() / "nnunet_fganet"
        folder = parent / version.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_NEEDED_BYTES))
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None
    return str(folder)


def _user_caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
