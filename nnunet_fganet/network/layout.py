"""Images as rows of channels, one a pixel, and in another number format."""

import torch


def image_rows(x: torch.Tensor) -> torch.Tensor:
    """``(batch, channels, height, width)`` to ``(batch, height, width, channels)``, contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


def image(rows: torch.Tensor) -> torch.Tensor:
    """Undo :func:`image_rows`: channels last."""
    return rows.permute(0, 3, 1, 2)


def converted(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``x.to(dtype)``; between float16 and bfloat16 a CPU takes half as long by way of float32."""
    halves = {x.dtype, dtype} == {torch.float16, torch.bfloat16}
    return x.float().to(dtype) if halves and x.device.type == "cpu" else x.to(dtype)
