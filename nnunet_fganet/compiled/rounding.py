"""Copies in bfloat16 that loops write beside what they compute: a pass of its own would read all of it once more."""

from typing import Any

import torch
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled
from nnunet_fganet.compiled.half import narrow, widen
from nnunet_fganet.compiled.lanes import LANES, load, store
from nnunet_fganet.compiled.threads import check_array

Array = NDArray[Any]


def rounded_address(rounded: torch.Tensor | None, *shape: int) -> int:
    """Where a copy in bfloat16 is to be written; 0 without one.

    Raises
    ------
    ValueError
        It is of another kind or shape.
    """
    if rounded is None:
        return 0
    check_array("rounded", rounded, torch.bfloat16, *shape)
    return rounded.data_ptr()


@compiled
def round_row(image: Array, row: int, start: int, stop: int, rounded: Array) -> None:
    """Copy columns ``start`` to ``stop`` of a row of numbers into the same place of ``rounded``, in bfloat16.

    Both are of two dimensions, contiguous; ``rounded`` holds the bits, as unsigned integers (:mod:`.half`).
    """
    tail = stop - (stop - start) % LANES
    for x in range(start, tail, LANES):
        store(rounded, row, x, load(image, row, x))
    for x in range(tail, stop):
        rounded[row, x] = narrow(widen(image[row, x]), rounded[row, x])
