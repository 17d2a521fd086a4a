"""How thick the wires of a data set are."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

FEWEST_ITERATIONS = 3
MOST_ITERATIONS = 10  # as in the released code
LABELS_TO_READ = 100


def largest_radius(labels: Sequence[Path]) -> float:
    """Largest distance of a foreground pixel to the background, in px, over at most 100 labels spread evenly.

    Parameters
    ----------
    labels
        8-bit PNG label files, background 0.
    """
    chosen = labels[:: max(1, -(-len(labels) // LABELS_TO_READ))]
    radii = []
    for path in chosen:
        label = np.asarray(Image.open(path))
        foreground = np.pad(label > 0, 1).astype(np.uint8)
        radii.append(float(cv2.distanceTransform(foreground, cv2.DIST_L2, 5).max()))
    return max(radii, default=0.0)


def skeleton_iterations(labels: Sequence[Path]) -> int:
    """Iterations that the soft skeleton of these labels needs, at least 3 and at most 10.

    Beyond the largest radius an iteration changes nothing, but costs time and memory. Predictions
    are thicker than labels while a network learns, hence the lower bound.
    """
    return int(np.clip(np.ceil(largest_radius(labels)), FEWEST_ITERATIONS, MOST_ITERATIONS))
