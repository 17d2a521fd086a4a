"""How the pixels of a prediction overlap those of a label: Dice, IoU, precision, recall, Macro-F1.

Label and prediction are arrays of one shape in which zero is background and anything else is wire.
Every figure has one stated value where one of them, or both, are empty:

=====================  ======================  ================================
label                  prediction              Dice, IoU, precision and recall
=====================  ======================  ================================
empty                  empty                   1 (nothing to find, nothing found)
empty                  not empty               0
not empty              empty                   0
=====================  ======================  ================================

A pooled figure counts the pixels of all frames before it divides, so that a frame without a wire
adds its false positives and nothing else. That is how Table 1 of the paper reads (Eq. 12); a mean
over frames weighs every frame alike and is reported under its own name.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnunet_fganet.evaluation.masks import Labels, Mask, Numbers, as_masks


class OverlapCounts(NamedTuple):
    """Pixels of one frame, or of many frames added up."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def dice(self) -> float:
        """``2 TP / (2 TP + FP + FN)`` in [0, 1]; 1 where there is nothing in label and prediction."""
        return float(overlap_figures(np.array(self))["dice"])


def overlap_counts(label: Labels, prediction: Labels, counted: Mask | None = None) -> OverlapCounts:
    """Count the wire pixels that are found, false and missed, and the background pixels left alone.

    Parameters
    ----------
    label, prediction
        Arrays of one shape, any number of dimensions, integer or boolean; non-zero is wire.
    counted
        True at the pixels that count, of the same shape; all of them where it is left out.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    wire, found = as_masks(label, prediction)
    pixels = wire.size
    if counted is not None:
        counted, _ = as_masks(counted, wire)
        wire, found, pixels = wire & counted, found & counted, int(np.count_nonzero(counted))
    both = int(np.count_nonzero(wire & found))
    false, missed = int(np.count_nonzero(found)) - both, int(np.count_nonzero(wire)) - both
    return OverlapCounts(both, false, missed, pixels - both - false - missed)


def overlap_figures(counts: npt.NDArray[np.number]) -> dict[str, Numbers]:
    """Figures of counted pixels.

    Parameters
    ----------
    counts
        Shape (..., 4), in the order of :class:`OverlapCounts`.

    Returns
    -------
    figures
        ``dice`` (the F1 score of the wire), ``iou``, ``precision``, ``recall`` and ``macro_f1`` (the mean of the
        F1 scores of wire and background), each of shape (...), in [0, 1].
    """
    found, false, missed, background = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    wrong = false + missed
    dice = _ratio(2 * found, 2 * found + wrong, 1.0)
    return {
        "dice": dice,
        "iou": _ratio(found, found + wrong, 1.0),
        "precision": _ratio(found, found + false, missed == 0),
        "recall": _ratio(found, found + missed, false == 0),
        "macro_f1": (dice + _ratio(2 * background, 2 * background + wrong, 1.0)) / 2,
    }


def pooled_dice(counts: Iterable[OverlapCounts]) -> float:
    """Dice over all pixels of all frames, in [0, 1]; 1 where neither holds a wire, or without frames."""
    totals = np.sum([*counts, OverlapCounts(0, 0, 0, 0)], axis=0)
    return float(overlap_figures(totals)["dice"])


def _ratio(part: Numbers, whole: Numbers, where_nothing: float | npt.NDArray[np.bool_]) -> Numbers:
    """``part / whole``, and ``where_nothing`` where there is nothing to count."""
    return np.where(whole == 0, where_nothing, part / np.maximum(whole, 1))
