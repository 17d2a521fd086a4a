"""Soft Dice and soft clDice as pure functions.

Source: Wang et al. 2025 (FGA-Net); clDice: Shit et al., CVPR 2021.
"""

import torch

SMOOTH = 1.0


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
