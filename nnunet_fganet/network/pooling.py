"""Max-pooling of images that a training hands on rounded (:mod:`.rounded`)."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_fganet.network.layout import image_rows
from nnunet_fganet.network.rounded import exact, handed_on, image_results, is_rounded, without_exact


class MaxPool2d(nn.MaxPool2d):
    """``torch.nn.MaxPool2d(2)``; of a rounded image, whose pixels are often the same, the exact ones are compared."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to half the height and width."""
        return handed_on(*_Pooled.apply(x, exact(x))) if is_rounded(x) else super().forward(x)


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        out, places = functional.max_pool2d(numbers, 2, return_indices=True)
        ctx.save_for_backward(without_exact(x), places)
        return image_results(ctx, image_rows(out), image_rows(out.to(x.dtype)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: None) -> tuple[torch.Tensor, None]:
        x, places = ctx.saved_tensors
        window = [2, 2], [2, 2], [0, 0], [1, 1], False
        return torch.ops.aten.max_pool2d_with_indices_backward(gradient, x, *window, places), None
