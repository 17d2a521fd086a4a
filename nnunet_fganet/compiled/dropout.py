"""Dropout in compiled loops: which entries stay is drawn where they are read, and drawn again for the gradient.

The numbers are those of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), which computes its n-th number from n, so that
they do not depend on how the entries are shared out among threads.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.threads import (
    arguments,
    check_array,
    finish_part,
    float_arguments,
    next_part,
    parts,
    pointer,
    run_parts,
)

LEVELS = 2**16  # of the probability: four entries share a random number of 64 bits
_ENTRIES = 2**14  # of a part
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_F = np.float32


def drop(numbers: torch.Tensor, seed: int, dropped: int) -> torch.Tensor:
    """Zero entries with a probability of ``dropped / LEVELS``, and scale the others so that the mean stays.

    Parameters
    ----------
    numbers
        Of any shape, contiguous, float32.
    seed
        Between -2^63 and 2^63 - 1; the same entries of as many stay for the same one.
    dropped
        From 0 to :data:`LEVELS` - 1.

    Raises
    ------
    ValueError
        The numbers are of another kind.
    """
    check_array("numbers", numbers, torch.float32, *numbers.shape)
    out, size = torch.empty_like(numbers), numbers.numel()
    given = size, seed, dropped, numbers.data_ptr(), out.data_ptr(), LEVELS / (LEVELS - dropped)
    run_parts(_loop(), -(-size // _ENTRIES), *given)
    return out


@compiled
def draw(seed: Any, first: int, words: NDArray[np.uint64]) -> None:
    """Write as many random numbers, from number ``first`` on."""
    for k in range(words.size):
        z = seed + np.uint64(first + k + 1) * _STEP
        z = (z ^ (z >> np.uint64(30))) * _FACTORS[0]
        z = (z ^ (z >> np.uint64(27))) * _FACTORS[1]
        words[k] = z ^ (z >> np.uint64(31))


@compiled
def _keep(numbers: NDArray[Any], levels: NDArray[np.uint16], dropped: Any, scale: Any, out: NDArray[Any]) -> None:
    for x in range(numbers.size):
        out[x] = numbers[x] * scale if levels[x] >= dropped else _F(0)


@cache
def _loop() -> Any:
    """Compile the loop over portions of all entries."""

    @loop("float32")
    def drop_portions(data: Any) -> None:
        a = arguments(data, 6)
        size, seed, dropped = a[0], np.uint64(a[1]), np.uint16(a[2])
        numbers, out = carray(pointer(a[3]), size, _F), carray(pointer(a[4]), size, _F)
        scale = _F(float_arguments(data, 6)[5])
        words = np.empty(_ENTRIES // 4, np.uint64)
        levels = words.view(np.uint16)
        part = next_part(data)
        while part < parts(data):
            first, last = part * _ENTRIES, min((part + 1) * _ENTRIES, size)
            draw(seed, first // 4, words)
            _keep(numbers[first:last], levels, dropped, scale, out[first:last])
            finish_part(data)
            part = next_part(data)

    return drop_portions
