"""Dropout whose masks do not cost more than the convolutions that they follow."""

import torch
from torch import nn

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``; on the CPU four masks' entries are drawn from each 64-bit random number.

    torch draws one number an entry, in one thread, which was an eighth of a training step. The
    probability is rounded to a multiple of 2^-16, and the kept values are scaled by exactly it.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p, inplace)
        if not 0 <= p <= 1:  # torch lets pass what is not a number
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        dropped = round(self.p * _LEVELS)
        fast = self.training and x.device.type == "cpu" and not self.inplace and not torch.compiler.is_compiling()
        if not fast or not 0 < dropped < _LEVELS:
            return super().forward(x)
        return x * _kept_entries(x, dropped) * (_LEVELS / (_LEVELS - dropped))


def _kept_entries(x: torch.Tensor, dropped: int) -> torch.Tensor:
    """Draw which entries stay, laid out in memory as ``x`` is; ``dropped`` of 2^16 go."""
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = numbers.view(torch.int16)[: x.numel()] >= dropped - _LEVELS // 2
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        batch, channels, height, width = x.shape
        return kept.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return kept.view(x.shape)
