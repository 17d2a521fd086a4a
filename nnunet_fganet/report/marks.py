"""Where a prediction fails, as a reader would point at it: breaks of the wire, missed stretches, false wire.

All three are of one class in one frame, and stated in docs/report.md too.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from nnunet_fganet.evaluation.centreline import centreline
from nnunet_fganet.evaluation.masks import Labels, Mask, as_masks

BREAK, MISS, FALSE_WIRE = "break", "miss", "false"
BRIDGE = 3
"""Pixels beside a gap within which predicted pixels still join its two sides: the wire was found there, a bit off."""
SHORTEST = 5
"""Pixels of centreline (or of predicted area) below which a miss (or false wire) is no more than a blunt end."""


@dataclass(frozen=True)
class Mark:
    """A circle around a failure; row, column and radius in pixels."""

    kind: str
    row: float
    column: float
    radius: float


def find_marks(label: Labels, prediction: Labels) -> list[Mark]:
    """Find all failures of a prediction.

    A **break** is a gap in the label's centreline that the prediction does not cover, between two covered stretches
    that no predicted pixels join within 3 px of the gap. A **miss** is any other uncovered stretch of the centreline
    that touches at most one covered stretch (an end of the wire, or all of it), of at least 5 px. **False wire** is a
    connected piece of the prediction, of at least 5 px, that touches the label nowhere.

    Parameters
    ----------
    label, prediction
        (H, W), integer or boolean; non-zero is wire.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    wire, found = as_masks(label, prediction)
    line = centreline(wire)
    covered = _pieces(line & found)
    marks = []
    for gap in _masks_of(_pieces(line & ~found)):
        around = _grown(gap, 1)
        sides = set(np.unique(covered[around])) - {0}
        if len(sides) > 1:
            if not _is_bridged(gap, covered, sides, found):
                marks.append(_mark(BREAK, gap))
        elif np.count_nonzero(gap) >= SHORTEST:
            marks.append(_mark(MISS, gap))
    for piece in _masks_of(_pieces(found)):
        if np.count_nonzero(piece) >= SHORTEST and not (_grown(piece, 1) & wire).any():
            marks.append(_mark(FALSE_WIRE, piece))
    return marks


def _is_bridged(gap: Mask, covered: np.ndarray, sides: set[int], found: Mask) -> bool:
    """Whether predicted pixels near the gap join all covered stretches that it parts."""
    near = _pieces(found & _grown(gap, BRIDGE))
    joined = [set(np.unique(near[covered == side])) - {0} for side in sides]
    return bool(set.intersection(*joined))


def _pieces(mask: Mask) -> np.ndarray:
    """Number the 8-connected pieces of a mask, from 1."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]


def _masks_of(pieces: np.ndarray) -> list[Mask]:
    return [pieces == number for number in range(1, int(pieces.max(initial=0)) + 1)]


def _grown(mask: Mask, pixels: int) -> Mask:
    size = 2 * pixels + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)).astype(bool)


def _mark(kind: str, piece: Mask) -> Mark:
    points = np.argwhere(piece)
    low, high = points.min(axis=0), points.max(axis=0)
    row, column = (low + high) / 2
    return Mark(kind, float(row), float(column), float(np.hypot(*(high - low)) / 2))
