"""What all measures share: masks of one frame, and the part of a frame that holds one."""

import cv2
import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.generic]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.floating]


def as_masks(label: Labels, prediction: Labels) -> tuple[Mask, Mask]:
    """Both arrays as boolean masks, true where they are not zero; raises ValueError where their shapes differ."""
    if label.shape != prediction.shape:
        raise ValueError(f"label and prediction differ in shape: {label.shape} and {prediction.shape}")
    return np.asarray(label) != 0, np.asarray(prediction) != 0


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """Rows and columns of the smallest box, (H, W), that holds all of a mask; an empty box for an empty mask."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(top, top + height), slice(left, left + width)
