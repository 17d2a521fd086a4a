"""Dice and clDice of one guidewire: of a frame, pooled over frames, and averaged over frames.

Label and prediction are arrays of one shape in which zero is background and anything else is wire.
Every function has one stated value for empty input:

=====================  ======================  ==================
label                  prediction              Dice and clDice
=====================  ======================  ==================
empty                  empty                   1 (nothing to find, nothing found)
empty                  not empty               0
not empty              empty                   0
=====================  ======================  ==================

A pooled figure counts the pixels of all frames before it divides, so that a frame without a wire
adds its false positives and nothing else. That is how Table 1 of the paper reads (Eq. 12); a mean
over frames weighs every frame alike and is reported under its own name.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from skimage.morphology import skeletonize

Labels = npt.NDArray[np.generic]


class OverlapCounts(NamedTuple):
    """Pixels of one frame, or of many frames added up."""

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def dice(self) -> float:
        """``2 TP / (2 TP + FP + FN)`` in [0, 1]; 1 where there is nothing in label and prediction."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)


def overlap_counts(label: Labels, prediction: Labels) -> OverlapCounts:
    """Count the wire pixels that are found, invented and missed.

    Parameters
    ----------
    label, prediction
        Arrays of one shape, any number of dimensions, integer or boolean; non-zero is wire.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    wire, found = _as_masks(label, prediction)
    both = int(np.count_nonzero(wire & found))
    return OverlapCounts(both, int(np.count_nonzero(found)) - both, int(np.count_nonzero(wire)) - both)


def pooled_dice(counts: Iterable[OverlapCounts]) -> float:
    """Dice over all pixels of all frames, in [0, 1]; 1 where neither holds a wire, or without frames."""
    totals = np.sum([*counts, OverlapCounts(0, 0, 0)], axis=0)
    return OverlapCounts(*(int(total) for total in totals)).dice


def cl_dice(label: Labels, prediction: Labels) -> float:
    """Centreline Dice of one frame, in [0, 1] (Shit et al., CVPR 2021, Eqs. 1-3).

    The harmonic mean of two shares: of the prediction's centreline that lies in the label (topology
    precision) and of the label's centreline that lies in the prediction (topology sensitivity).
    Centrelines are morphological skeletons, one pixel wide.

    Parameters
    ----------
    label, prediction
        Arrays of one shape (height, width), integer or boolean; non-zero is wire.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    wire, found = _as_masks(label, prediction)
    if not wire.any() or not found.any():
        return float(wire.any() == found.any())
    precision = _share_inside(skeletonize(found), wire)
    sensitivity = _share_inside(skeletonize(wire), found)
    return 0.0 if precision + sensitivity == 0 else 2 * precision * sensitivity / (precision + sensitivity)


def _as_masks(label: Labels, prediction: Labels) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    if label.shape != prediction.shape:
        raise ValueError(f"label and prediction differ in shape: {label.shape} and {prediction.shape}")
    return np.asarray(label) != 0, np.asarray(prediction) != 0


def _share_inside(centreline: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_]) -> float:
    return _ratio(int(np.count_nonzero(centreline & mask)), int(np.count_nonzero(centreline)))


def _ratio(part: int, whole: int) -> float:
    """``part / whole``, and 1 where there is nothing to count."""
    return 1.0 if whole == 0 else part / whole
