"""Soft Dice, soft skeleton and soft clDice as pure functions.

Source: Wang et al. 2025 (FGA-Net); clDice: Shit et al., CVPR 2021.
"""

import torch
from torch.nn import functional

SMOOTH = 1.0


def soft_skeleton(x: torch.Tensor, iterations: int) -> torch.Tensor:
    """Soft skeleton: what repeated soft erosion and opening leave of thin structures.

    Parameters
    ----------
    x
        Probabilities or a binary mask in [0, 1], ``(batch, channels, height, width)``.
    iterations
        Erosions after the first opening; more than the largest radius of a wire, in pixels, change nothing.

    Returns
    -------
    torch.Tensor
        Values in [0, 1], of the shape of ``x``.
    """
    eroded = _erode(x)
    skeleton = functional.relu(x - _dilate(eroded))
    for _ in range(iterations):
        x, eroded = eroded, _erode(eroded)
        residue = functional.relu(x - _dilate(eroded))
        skeleton = skeleton + functional.relu(residue - skeleton * residue)
    return skeleton


def soft_dice(
    intersection: torch.Tensor, prediction: torch.Tensor, label: torch.Tensor, smooth: float = SMOOTH
) -> torch.Tensor:
    """Soft Dice of sums: ``(2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth)``.

    With ``sum(p^2)`` and ``sum(g^2)`` for the last two it has the paper's squared denominator.
    """
    return (2 * intersection + smooth) / (prediction + label + smooth)


def soft_cldice(
    skeleton_in_label: torch.Tensor,
    skeleton: torch.Tensor,
    label_skeleton_in_prediction: torch.Tensor,
    label_skeleton: torch.Tensor,
    smooth: float = SMOOTH,
) -> torch.Tensor:
    """Soft clDice of sums: harmonic mean of topology precision T and sensitivity S.

    ``T = (sum(skel(p) g) + smooth) / (sum(skel(p)) + smooth)``,
    ``S = (sum(skel(g) p) + smooth) / (sum(skel(g)) + smooth)``.
    """
    precision = (skeleton_in_label + smooth) / (skeleton + smooth)
    sensitivity = (label_skeleton_in_prediction + smooth) / (label_skeleton + smooth)
    return 2 * precision * sensitivity / (precision + sensitivity)


def _erode(x: torch.Tensor) -> torch.Tensor:
    """Minimum of the two one-dimensional minimum filters over three pixels."""
    negative = -x
    rows = functional.max_pool2d(negative, (3, 1), stride=1, padding=(1, 0))
    columns = functional.max_pool2d(negative, (1, 3), stride=1, padding=(0, 1))
    return -torch.maximum(rows, columns)


def _dilate(x: torch.Tensor) -> torch.Tensor:
    """Maximum filter over 3 x 3 pixels."""
    return functional.max_pool2d(x, 3, stride=1, padding=1)
