"""How good probabilities are, before they become a mask: ROC AUC and expected calibration error.

Pixels are counted in histograms, whose arrays are added to merge frames. A histogram
cannot tell apart the pixels of one bin, which the AUC counts as ties; :func:`auc_error` says how much
that can have changed it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_fganet.evaluation.masks import Mask, Numbers

# Bins for the AUC have equal widths in the logit, since nearly all probabilities of a trained network
# are close to 0 or 1 and bins of equal probability would throw them together. Beyond 20, a probability
# of 2e-9, all are one bin; close to 1 single precision itself ends at 17.
RANK_BINS = 4096
LARGEST_LOGIT = 20.0
CALIBRATION_BINS = 15  # of equal width in [0, 1], as in Guo et al., ICML 2017
Counts = npt.NDArray[np.number]


@dataclass(frozen=True)
class ProbabilityHistogram:
    """Pixels of a frame by their probability; those of many frames are the sums of the arrays.

    Attributes
    ----------
    ranks
        (2, 4096): background and wire pixels in bins of the logit.
    calibration
        (3, 15): number of pixels, of wire pixels, and sum of the probabilities in bins of the probability.
    """

    ranks: Counts
    calibration: Counts


def probability_histogram(
    label: Mask, probability: npt.NDArray[np.floating], counted: Mask | None = None
) -> ProbabilityHistogram:
    """Count the pixels of a frame.

    Parameters
    ----------
    label
        (H, W) boolean, true on the wire.
    probability
        (H, W), of being wire, in [0, 1].
    counted
        (H, W) boolean, true at the pixels that count; all of them where it is left out.

    Raises
    ------
    ValueError
        The shapes differ, or a probability is outside [0, 1] or not a number.
    """
    if label.shape != probability.shape:
        raise ValueError(f"label and probability differ in shape: {label.shape} and {probability.shape}")
    wire, values = (label.ravel(), probability.ravel()) if counted is None else (label[counted], probability[counted])
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError("a probability is outside [0, 1] or not a number")
    ranks, bins = _rank_bins(values), np.minimum(values * CALIBRATION_BINS, CALIBRATION_BINS - 1).astype(np.intp)
    pixels, wires = (_count(ranks[chosen], RANK_BINS) for chosen in (slice(None), wire))
    calibration = (
        _count(bins, CALIBRATION_BINS),
        _count(bins[wire], CALIBRATION_BINS),
        np.bincount(bins, weights=values, minlength=CALIBRATION_BINS),
    )
    return ProbabilityHistogram(np.stack((pixels - wires, wires)).astype(np.uint32), np.stack(calibration))


def auc(ranks: Counts) -> Numbers:
    """Area under the ROC curve: the chance that a wire pixel has a higher probability than a background pixel.

    Parameters
    ----------
    ranks
        (..., 2, bins), as in :class:`ProbabilityHistogram`. Pixels of one bin are ties and count half.

    Returns
    -------
    area
        (...), in [0, 1]; not a number where there is no wire pixel, or no background pixel.
    """
    background, wire = np.moveaxis(np.asarray(ranks, dtype=np.float64), -2, 0)
    below = np.cumsum(background, axis=-1) - background / 2
    return _share_of_pairs(below, background, wire)


def auc_error(ranks: Counts) -> Numbers:
    """Largest possible difference between :func:`auc` and the area without bins: half the share of pairs in one bin."""
    background, wire = np.moveaxis(np.asarray(ranks, dtype=np.float64), -2, 0)
    return _share_of_pairs(background / 2, background, wire)


def calibration_error(calibration: Counts) -> Numbers:
    """Expected calibration error of the probability of being wire (Guo et al., ICML 2017, for one class).

    Over the bins, the mean of the difference between the share of wire pixels and the mean probability, weighted by
    the bins' pixels.

    Parameters
    ----------
    calibration
        (..., 3, bins), as in :class:`ProbabilityHistogram`.

    Returns
    -------
    error
        (...), in [0, 1]; not a number without pixels.
    """
    pixels, wire, probability = np.moveaxis(np.asarray(calibration, dtype=np.float64), -2, 0)
    with np.errstate(invalid="ignore"):
        return np.abs(wire - probability).sum(axis=-1) / pixels.sum(axis=-1)


def _rank_bins(values: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
    with np.errstate(divide="ignore"):
        logits = np.log(values) - np.log1p(-values)
    scaled = (logits + LARGEST_LOGIT) * (RANK_BINS / (2 * LARGEST_LOGIT))
    return np.clip(scaled, 0, RANK_BINS - 1).astype(np.intp)


def _count(bins: npt.NDArray[np.intp], number: int) -> npt.NDArray[np.intp]:
    return np.bincount(bins, minlength=number)


def _share_of_pairs(weights: Numbers, background: Numbers, wire: Numbers) -> Numbers:
    """Sum of ``weights`` over wire pixels, as a share of all pairs of a wire and a background pixel."""
    with np.errstate(invalid="ignore"):
        return (wire * weights).sum(axis=-1) / (wire.sum(axis=-1) * background.sum(axis=-1))
