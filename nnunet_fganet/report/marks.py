"""Where a prediction fails, as a reader would point at it: breaks of the wire, missed stretches, false wire.

All three are of one class in one frame, and stated in docs/report.md too.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnunet_fganet.evaluation.centreline import centreline
from nnunet_fganet.evaluation.masks import Labels, Mask, as_masks

PieceNumbers = npt.NDArray[np.integer]

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
    return _breaks_and_misses(line, found) + _false_wires(wire, found)


def _breaks_and_misses(line: Mask, found: Mask) -> list[Mark]:
    """Judge every uncovered stretch of a centreline, each in a window of its own."""
    covered = _pieces(line & found).numbers
    gaps = _pieces(line & ~found)
    marks = []
    for number, box in enumerate(gaps.boxes, 1):
        window = box.grown(BRIDGE + 1)
        gap = gaps.numbers[window] == number
        sides = set(np.unique(covered[window][_grown(gap, 1)])) - {0}
        if len(sides) > 1:
            if not _is_bridged(gap, covered[window], sides, found[window]):
                marks.append(box.mark(BREAK))
        elif np.count_nonzero(gap) >= SHORTEST:
            marks.append(box.mark(MISS))
    return marks


def _is_bridged(gap: Mask, covered: PieceNumbers, sides: set[int], found: Mask) -> bool:
    """Whether predicted pixels near the gap join all covered stretches that it parts."""
    near = _pieces(found & _grown(gap, BRIDGE)).numbers
    joined = [set(np.unique(near[covered == side])) - {0} for side in sides]
    return bool(set.intersection(*joined))


def _false_wires(wire: Mask, found: Mask) -> list[Mark]:
    pieces = _pieces(found)
    touching = set(np.unique(pieces.numbers[_grown(wire, 1)]))
    return [
        box.mark(FALSE_WIRE)
        for number, (box, area) in enumerate(zip(pieces.boxes, pieces.areas, strict=True), 1)
        if area >= SHORTEST and number not in touching
    ]


class _Box(NamedTuple):
    left: int
    top: int
    width: int
    height: int

    def grown(self, pixels: int) -> tuple[slice, slice]:
        """Rows and columns of the box and so many pixels around it."""
        return (
            slice(max(self.top - pixels, 0), self.top + self.height + pixels),
            slice(max(self.left - pixels, 0), self.left + self.width + pixels),
        )

    def mark(self, kind: str) -> Mark:
        down, right = (self.height - 1) / 2, (self.width - 1) / 2
        return Mark(kind, self.top + down, self.left + right, float(np.hypot(down, right)))


class _Pieces(NamedTuple):
    """8-connected pieces of a mask: their numbers, from 1, in its pixels; box and area of each."""

    numbers: PieceNumbers
    boxes: list[_Box]
    areas: list[int]


def _pieces(mask: Mask) -> _Pieces:
    _, numbers, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    rows = statistics[1:].tolist()
    return _Pieces(
        numbers.astype(np.int32, copy=False), [_Box(*row[:4]) for row in rows], [row[cv2.CC_STAT_AREA] for row in rows]
    )


def _grown(mask: Mask, pixels: int) -> Mask:
    size = 2 * pixels + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)).astype(bool)
