"""Where a wire's tip is in a mask, and how far a prediction is off.

The largest piece of a mask is the wire. Its ends are those of the longest way along its centreline and
not all pixels with one neighbour: skeletons of uneven masks have spurs, and a spur in the middle of a
frame lies farther from its border than many a tip. A wire comes in from the frame's border, so the end
of the label that is farther from the border is its tip. Of the prediction's two ends the one nearer to
that counts: a mask does not say which way the wire goes, and two ends that are about as far from the
border would change places for a pixel's sake.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from nnunet_fganet.evaluation.centreline import centreline
from nnunet_fganet.evaluation.masks import Labels, Mask, as_masks

_NEIGHBOURS = 1.5  # pixels within this distance touch, at a side (1) or a corner (1.41)


def find_ends(mask: Labels, line: Mask | None = None) -> npt.NDArray[np.integer] | None:
    """Find both ends of the wire.

    Parameters
    ----------
    mask
        (H, W), integer or boolean; non-zero is wire.
    line
        Its centreline, where it is known already.

    Returns
    -------
    ends
        (2, 2): row and column of either end in pixels; None in an empty mask.
    """
    wire = np.asarray(mask) != 0
    if not wire.any():
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(wire.view(np.uint8), connectivity=8)
    largest = labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
    points = np.argwhere(largest & (centreline(wire) if line is None else line))
    return points[_ends_of_longest_way(points)]


def find_tip(mask: Labels, line: Mask | None = None) -> npt.NDArray[np.integer] | None:
    """Find the end of the wire that is farther from the border of the frame: row and column, or None.

    Parameters
    ----------
    mask
        (H, W), integer or boolean; non-zero is wire.
    line
        Its centreline, where it is known already.
    """
    ends = find_ends(mask, line)
    if ends is None:
        return None
    to_border = np.minimum(ends, np.array(mask.shape) - 1 - ends).min(axis=1)
    return ends[np.argmax(to_border)]


def tip_error(
    label: Labels, prediction: Labels, label_line: Mask | None = None, prediction_line: Mask | None = None
) -> float:
    """Distance from the label's tip to the nearer end of the predicted wire, in pixels.

    Parameters
    ----------
    label, prediction
        Arrays of one shape (H, W), integer or boolean; non-zero is wire.
    label_line, prediction_line
        Their centrelines, where they are known already.

    Returns
    -------
    error
        0 where both are empty, the length of the frame's diagonal where one of them is.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    wire, found = as_masks(label, prediction)
    tip, ends = find_tip(wire, label_line), find_ends(found, prediction_line)
    if tip is None or ends is None:
        return 0.0 if tip is ends else float(np.hypot(*wire.shape))
    return float(np.linalg.norm(ends - tip, axis=1).min())


def _ends_of_longest_way(points: npt.NDArray[np.integer]) -> list[int]:
    """Indices of the two pixels of a connected line, shape (N, 2), that are farthest apart along it.

    The pixel farthest from any pixel is one end, and the pixel farthest from that the other: exact for lines
    without loops.
    """
    pairs = KDTree(points).query_pairs(_NEIGHBOURS, output_type="ndarray")
    lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    steps = csr_array((lengths, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    first = int(np.argmax(dijkstra(steps, directed=False, indices=0)))
    return [first, int(np.argmax(dijkstra(steps, directed=False, indices=first)))]
