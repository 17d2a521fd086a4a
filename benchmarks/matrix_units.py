"""How fast this processor's matrix units multiply 8-bit integers, by what memory the factors come from.

    python benchmarks/matrix_units.py

Each thread multiplies random numbers by the six products of a step of a convolution (``add_tile_products``), again and
again through memory of its own: the cache that this fits into feeds the units. Prints thousand millions of operations a
second of all threads (a product and its sum are two), fastest of five.
"""

import time
from typing import Any

import numpy as np
import torch

from nnunet_fganet.compiled.decorators import loop
from nnunet_fganet.compiled.matrix_units import (
    PANEL,
    ROWS_OF_TILE,
    STEP,
    STEP_BYTES,
    add_tile_products,
    begin_tiles,
    clear_sums,
    end_tiles,
    has_matrix_units,
    tile_shapes,
)
from nnunet_fganet.compiled.threads import arguments, finish_part, next_part, parts, run_parts

KILOBYTES = (12, 24, 48, 192, 768, 3072, 49152)
RUNS = 5
STEPS = 200_000
PRODUCTS = 6  # of two tiles, in a step
TILE_BYTES = ROWS_OF_TILE * STEP
ALL_BYTES = 4 * TILE_BYTES + STEP_BYTES  # of a step: high and low bytes of twice sixteen rows, and of the right factor


def main() -> None:
    """Print a line for each amount of memory."""
    if not has_matrix_units():
        raise SystemExit("this processor has no matrix units for 8-bit integers that this process may use")
    threads = torch.get_num_threads()
    operations = 2 * threads * STEPS * PRODUCTS * ROWS_OF_TILE * PANEL * STEP
    multiply = loop("int8")(_multiply)
    for kilobytes in KILOBYTES:
        places = kilobytes * 1024 // ALL_BYTES
        numbers = np.random.default_rng(0).integers(0, 256, threads * places * ALL_BYTES + STEP, np.uint8)
        start = numbers.ctypes.data + -numbers.ctypes.data % STEP
        seconds = []
        for _ in range(RUNS):
            begin = time.perf_counter()
            run_parts(multiply, threads, start, places, tile_shapes().ctypes.data)
            seconds.append(time.perf_counter() - begin)
        print(f"{kilobytes:6} KB a thread: {operations / min(seconds) / 1e9:6.0f}", flush=True)


def _multiply(data: Any) -> None:
    """Compiled: a part is what one thread does."""
    a = arguments(data, 3)
    before = np.empty(64, np.uint8)
    begin_tiles(a[2], before)
    part = next_part(data)
    while part < parts(data):
        clear_sums()
        first = a[0] + part * a[1] * ALL_BYTES
        for step in range(STEPS):
            place = first + step % a[1] * ALL_BYTES
            add_tile_products(place, place + TILE_BYTES, 2 * TILE_BYTES, STEP, place + 4 * TILE_BYTES)
        finish_part(data)
        part = next_part(data)
    end_tiles(before)


if __name__ == "__main__":
    main()
