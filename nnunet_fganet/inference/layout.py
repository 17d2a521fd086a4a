"""Images as rows of channels, one a pixel."""

import torch


def image_rows(x: torch.Tensor) -> torch.Tensor:
    """``(batch, channels, height, width)`` to ``(batch, height, width, channels)``, contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


def image(rows: torch.Tensor) -> torch.Tensor:
    """Undo :func:`image_rows`: channels last."""
    return rows.permute(0, 3, 1, 2)
