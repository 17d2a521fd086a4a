"""All figures of one class in one frame."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_fganet.evaluation.centreline import centreline, cl_dice, line_distances
from nnunet_fganet.evaluation.masks import Mask, as_masks
from nnunet_fganet.evaluation.overlap import OverlapCounts, overlap_counts, overlap_figures
from nnunet_fganet.evaluation.probability import (
    ProbabilityHistogram,
    auc,
    calibration_error,
    probability_histogram,
)
from nnunet_fganet.evaluation.tip import tip_error
from nnunet_fganet.evaluation.topology import betti_numbers, is_one_piece


@dataclass(frozen=True)
class FrameFigures:
    """How a prediction agrees with a label: one class in one frame. Lists of these are merged by joining them.

    Attributes
    ----------
    case
        Name of the frame.
    counts
        Pixels that are found, false, missed and left alone.
    cl_dice
        0 to 1.
    betti0_error, betti1_error
        Difference in the numbers of pieces and of holes.
    one_piece
        Whether the wire was found in one piece; None where the label is not one piece.
    assd, hd95, tip_error
        Distances in pixels; None where label and prediction are empty.
    spacing_mm
        Length of a pixel; None where it is not known.
    histogram
        Of the probabilities; None without them.
    """

    case: str
    counts: OverlapCounts
    cl_dice: float
    betti0_error: int
    betti1_error: int
    one_piece: bool | None
    assd: float | None
    hd95: float | None
    tip_error: float | None
    spacing_mm: float | None = None
    histogram: ProbabilityHistogram | None = None

    def values(self) -> dict[str, float]:
        """Every figure of the frame by its key; not a number where there is nothing to measure."""
        in_mm = None if self.tip_error is None or self.spacing_mm is None else self.tip_error * self.spacing_mm
        ranks = None if self.histogram is None else auc(self.histogram.ranks)
        calibration = None if self.histogram is None else calibration_error(self.histogram.calibration)
        values = {
            **overlap_figures(np.array(self.counts)),
            "auc": ranks,
            "cldice": self.cl_dice,
            "betti0_error": self.betti0_error,
            "betti1_error": self.betti1_error,
            "assd": self.assd,
            "hd95": self.hd95,
            "tip_error": self.tip_error,
            "tip_error_mm": in_mm,
            "one_piece": self.one_piece,
            "ece": calibration,
        }
        return {key: float("nan") if value is None else float(value) for key, value in values.items()}


def measure_frame(
    case: str,
    label: npt.NDArray[np.generic],
    prediction: npt.NDArray[np.generic],
    counted: Mask | None = None,
    probability: npt.NDArray[np.floating] | None = None,
    spacing_mm: float | None = None,
) -> FrameFigures:
    """Measure one class in one frame.

    Parameters
    ----------
    case
        Name of the frame.
    label, prediction
        (H, W), integer or boolean; non-zero belongs to the class.
    counted
        (H, W), false where the label is to be ignored; such pixels are background in label and prediction, and no
        figure counts them as background that was rightly left alone.
    probability
        (H, W), of the class, in [0, 1].
    spacing_mm
        Length of a pixel.

    Raises
    ------
    ValueError
        The shapes differ, or a probability is none.
    """
    wire, found = as_masks(label, prediction)
    if counted is not None:
        wire, found = wire & counted, found & counted
    wire_line, found_line = centreline(wire), centreline(found)
    betti, betti_found = betti_numbers(wire), betti_numbers(found)
    something = bool(wire.any() or found.any())
    distances = line_distances(wire_line, found_line) if something else None
    return FrameFigures(
        case=case,
        counts=overlap_counts(wire, found, counted),
        cl_dice=cl_dice(wire, found, wire_line, found_line),
        betti0_error=abs(betti.pieces - betti_found.pieces),
        betti1_error=abs(betti.holes - betti_found.holes),
        one_piece=is_one_piece(wire, found),
        assd=None if distances is None else distances.assd,
        hd95=None if distances is None else distances.hd95,
        tip_error=tip_error(wire, found, wire_line, found_line) if something else None,
        spacing_mm=spacing_mm,
        histogram=None if probability is None else probability_histogram(wire, probability, counted),
    )
