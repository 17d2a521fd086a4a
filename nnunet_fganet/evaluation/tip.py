"""Where a wire's tip is in a mask, and how far a prediction is off.

The largest piece of the mask is the wire. A wire comes in from the frame's border, so of the two ends
of its centreline the tip is the one farther from the border. The ends are those of the longest way
along the centreline and not just pixels with one neighbour: skeletons of uneven masks have spurs,
and a spur in the middle of a frame lies farther from its border than many a tip.
"""

import cv2
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from nnunet_fganet.evaluation.centreline import centreline
from nnunet_fganet.evaluation.masks import Labels, Mask, as_masks

_NEIGHBOURS = 1.5  # pixels within this distance touch, at a side (1) or a corner (1.41)


def find_tip(mask: Labels, line: Mask | None = None) -> tuple[int, int] | None:
    """Find the tip of the wire: (row, column), in pixels, or None in an empty mask.

    Parameters
    ----------
    mask
        (H, W), integer or boolean; non-zero is wire.
    line
        Its centreline, where it is known already.
    """
    wire = np.asarray(mask) != 0
    if not wire.any():
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(wire.view(np.uint8), connectivity=8)
    largest = labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
    points = np.argwhere(largest & (centreline(wire) if line is None else line))
    ends = points[_ends_of_longest_way(points)]
    to_border = np.minimum(ends, np.array(wire.shape) - 1 - ends).min(axis=1)
    row, column = ends[np.argmax(to_border)]
    return int(row), int(column)


def tip_error(
    label: Labels, prediction: Labels, label_line: Mask | None = None, prediction_line: Mask | None = None
) -> float:
    """Distance between the tips of label and prediction, in pixels.

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
    there, predicted = find_tip(wire, label_line), find_tip(found, prediction_line)
    if there is None or predicted is None:
        return 0.0 if there == predicted else float(np.hypot(*wire.shape))
    return float(np.hypot(there[0] - predicted[0], there[1] - predicted[1]))


def _ends_of_longest_way(points: np.ndarray) -> list[int]:
    """Indices of the two pixels of a connected line, shape (N, 2), that are farthest apart along it.

    The pixel farthest from any pixel is one end, and the pixel farthest from that the other: exact for lines
    without loops.
    """
    pairs = KDTree(points).query_pairs(_NEIGHBOURS, output_type="ndarray")
    lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    steps = csr_array((lengths, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    first = int(np.argmax(dijkstra(steps, directed=False, indices=0)))
    return [first, int(np.argmax(dijkstra(steps, directed=False, indices=first)))]
