"""Centrelines of masks, and how well two of them agree: clDice, mean and 95 % Hausdorff distance.

Stated values where a mask is empty: both empty, clDice 1 and distances 0; one of them empty, clDice
0 and the length of the frame's diagonal, the largest distance that there could have been.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from nnunet_fganet.evaluation.masks import Labels, Mask, as_masks, bounding_box


class LineDistances(NamedTuple):
    """Distances of two centrelines, in pixels."""

    assd: float
    hd95: float


def centreline(mask: Labels) -> Mask:
    """Morphological skeleton, one pixel wide and as connected as the mask (Zhang and Suen, CACM 1984).

    Parameters
    ----------
    mask
        (H, W), integer or boolean; non-zero is wire.

    Returns
    -------
    line
        (H, W) boolean.
    """
    wire = np.asarray(mask) != 0
    line = np.zeros(wire.shape, dtype=bool)
    if wire.any():
        box = bounding_box(wire)  # a skeleton costs time for each pixel that it is given
        line[box] = skeletonize(wire[box])
    return line


def cl_dice(
    label: Labels, prediction: Labels, label_line: Mask | None = None, prediction_line: Mask | None = None
) -> float:
    """Centreline Dice of one frame, in [0, 1] (Shit et al., CVPR 2021, Eqs. 1-3).

    The harmonic mean of two shares: of the prediction's centreline that lies in the label (topology
    precision) and of the label's centreline that lies in the prediction (topology sensitivity).

    Parameters
    ----------
    label, prediction
        Arrays of one shape (H, W), integer or boolean; non-zero is wire.
    label_line, prediction_line
        Their centrelines, where they are known already.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    wire, found = as_masks(label, prediction)
    if not wire.any() or not found.any():
        return float(wire.any() == found.any())
    precision = _share_inside(centreline(found) if prediction_line is None else prediction_line, wire)
    sensitivity = _share_inside(centreline(wire) if label_line is None else label_line, found)
    return 0.0 if precision + sensitivity == 0 else 2 * precision * sensitivity / (precision + sensitivity)


def line_distances(label_line: Mask, prediction_line: Mask) -> LineDistances:
    """Average symmetric distance and 95 % Hausdorff distance of two centrelines.

    Every pixel of a line has a distance to the nearest pixel of the other. ``assd`` is the mean over the pixels of
    both lines; ``hd95`` the larger of the two lines' 95th percentiles (with linear interpolation).

    Parameters
    ----------
    label_line, prediction_line
        (H, W) boolean.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    points = [np.argwhere(line) for line in as_masks(label_line, prediction_line)]
    if not all(len(own) for own in points):
        distance = float(np.hypot(*label_line.shape)) if any(len(own) for own in points) else 0.0
        return LineDistances(distance, distance)
    there, back = _nearest(points[0], points[1]), _nearest(points[1], points[0])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return LineDistances(float(np.concatenate((there, back)).mean()), float(hd95))


def _nearest(points: npt.NDArray[np.integer], others: npt.NDArray[np.integer]) -> npt.NDArray[np.floating]:
    """Distance of each of ``points`` to the nearest of ``others``."""
    return KDTree(others).query(points)[0]


def _share_inside(line: Mask, mask: Mask) -> float:
    return float(np.count_nonzero(line & mask) / np.count_nonzero(line))
