"""How thick the wires of a data set are."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

FEWEST_ITERATIONS = 3
MOST_ITERATIONS = 10  # as in the released code
LABELS_TO_READ = 100

ReadLabel = Callable[[str], tuple[np.ndarray, Any]]


def largest_radius(labels: Sequence[str], read: ReadLabel, ignore: int | None = None) -> float:
    """Largest distance of a foreground pixel to the background, in px, over at most 100 labels spread evenly.

    Parameters
    ----------
    labels
        Label files.
    read
        ``read_seg`` of an nnU-Net reader: a file to ``(1, slices, height, width)`` and properties.
    ignore
        Label of pixels that count nowhere.
    """
    chosen = labels[:: max(1, -(-len(labels) // LABELS_TO_READ))]
    radii = [_radius(frame, ignore) for path in chosen for frame in read(path)[0][0]]
    return max(radii, default=0.0)


def skeleton_iterations(labels: Sequence[str], read: ReadLabel, ignore: int | None = None) -> int:
    """Iterations that the soft skeleton of these labels needs, at least 3 and at most 10.

    Beyond the largest radius an iteration changes nothing, but costs time and memory. Predictions
    are thicker than labels while a network learns, hence the lower bound.
    """
    return int(np.clip(np.ceil(largest_radius(labels, read, ignore)), FEWEST_ITERATIONS, MOST_ITERATIONS))


def _radius(frame: np.ndarray, ignore: int | None) -> float:
    wire = (frame > 0) & (frame != ignore)
    return float(cv2.distanceTransform(np.pad(wire, 1).astype(np.uint8), cv2.DIST_L2, 5).max())
