"""Masks that the tests of evaluation share."""

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import strategies as st

masks = arrays.arrays(np.bool_, (12, 9), elements=st.booleans())
# Half of the pixels set at random is all noise; these have the long pieces and holes of real masks.
smooth_masks = arrays.arrays(np.bool_, (6, 5), elements=st.booleans()).map(
    lambda coarse: np.kron(coarse, np.ones((3, 3), dtype=bool))
)


def horizontal_wire(row: int, start: int, stop: int, half_width: int = 1) -> np.ndarray:
    """A wire in a frame of 32 x 64."""
    mask = np.zeros((32, 64), np.uint8)
    mask[row - half_width : row + half_width + 1, start:stop] = 1
    return mask


def drawn(text: str) -> np.ndarray:
    """A mask from lines of # and other characters."""
    return np.array([[character == "#" for character in line.strip()] for line in text.strip().splitlines()])


EMPTY = np.zeros((32, 64), np.uint8)
