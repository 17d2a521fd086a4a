"""Pieces and holes of a mask: Betti numbers, and whether a wire is in one piece.

Wire is 8-connected (pixels that touch at a corner belong together), background 4-connected, so that
a diagonal line of pixels is one piece and parts the background. Beyond the frame there is background:
a loop that the frame's edge cuts open is no hole. An empty mask has no pieces and no holes.
"""

from typing import NamedTuple

import cv2
import numpy as np

from nnunet_fganet.evaluation.masks import Labels, as_masks, bounding_box


class BettiNumbers(NamedTuple):
    """What there is in a mask: connected pieces (Betti-0) and holes (Betti-1)."""

    pieces: int
    holes: int


def betti_numbers(mask: Labels) -> BettiNumbers:
    """Count the 8-connected pieces of a mask and the 4-connected holes in it.

    Parameters
    ----------
    mask
        (H, W), integer or boolean; non-zero is wire.
    """
    wire = np.asarray(mask) != 0
    wire = np.pad(wire[bounding_box(wire)], 1).view(np.uint8)
    pieces, _ = cv2.connectedComponents(wire, connectivity=8)
    backgrounds, _ = cv2.connectedComponents(1 - wire, connectivity=4)
    return BettiNumbers(pieces - 1, backgrounds - 2)  # OpenCV counts what it leaves out too; one background is outside


def is_one_piece(label: Labels, prediction: Labels) -> bool | None:
    """Whether the wire was found in one piece.

    Returns
    -------
    one_piece
        True where the prediction is one single piece that overlaps the label. None where the label itself is no
        single piece (empty, or a wire that leaves the window and comes back): there is nothing to judge.
    """
    wire, found = as_masks(label, prediction)
    if betti_numbers(wire).pieces != 1:
        return None
    return betti_numbers(found).pieces == 1 and bool((wire & found).any())
