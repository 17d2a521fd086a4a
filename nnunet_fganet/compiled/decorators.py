"""How this package compiles its loops with Numba.

What is compiled is kept for the next process in the user's cache folder: Numba's default, beside the
source, would leave files in ``site-packages`` that uninstalling does not know of.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba

_ARITHMETIC = {"contract", "nsz"}  # products and sums in one step; NaN and infinity keep their meaning


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function for use in loops, at its first call."""
    with _user_cache():
        return numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_ARITHMETIC)(function)


def compiled_sums(function: Callable[..., Any]) -> Any:
    """Compile as :func:`compiled` does, with sums in any order, so that they are vectorised too."""
    with _user_cache():
        return numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_ARITHMETIC | {"reassoc"})(function)


def loop(function: Callable[[Any], None]) -> Any:
    """Compile a loop for :func:`nnunet_fganet.compiled.threads.run_parts`, at once."""
    with _user_cache():
        return numba.cfunc("void(voidptr)", cache=True, error_model="numpy")(function)


@contextmanager
def _user_cache() -> Iterator[None]:
    """Let Numba choose the user's cache folder for what is decorated meanwhile; ``NUMBA_CACHE_DIR`` goes first."""
    chosen = numba.config.CACHE_DIR
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnunet_fganet"
    numba.config.CACHE_DIR = chosen or str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = chosen
