"""Dropout that does not cost more than the convolutions that it follows."""

from typing import Any

import torch
from torch import nn

from nnunet_fganet.compiled.dropout import LEVELS, drop
from nnunet_fganet.network.norm import has_channels_last


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``; in float32 on a CPU without a mask that is drawn, kept and multiplied by.

    torch draws one number an entry, in one thread, which was an eighth of a training step. The
    probability is rounded to a multiple of 2^-16, and the kept values are scaled by exactly it.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p, inplace)
        if not 0 <= p <= 1:  # torch lets pass what is not a number
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        usual = type(x) is torch.Tensor and x.device.type == "cpu" and x.dtype == torch.float32
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if not (self.training and usual and self.draws_numbers) or recorded:
            return super().forward(x)
        return _Drop.apply(x, *self.draw())

    @property
    def draws_numbers(self) -> bool:
        """Whether a training drops by numbers of :func:`nnunet_fganet.compiled.dropout.drop`."""
        return not self.inplace and 0 < round(self.p * LEVELS) < LEVELS

    def draw(self) -> tuple[int, int]:
        """A seed, by torch's generator, and how many of :data:`nnunet_fganet.compiled.dropout.LEVELS` are dropped."""
        return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None)), round(self.p * LEVELS)


class _Drop(torch.autograd.Function):
    """Linear in its input; the gradient draws the same numbers again."""

    @staticmethod
    def forward(x: torch.Tensor, seed: int, dropped: int) -> torch.Tensor:
        # Entries are counted in the order in which they lie in memory. Detached, for autograd forbids to write into a
        # view that one of its functions returns.
        if x.dim() == 4 and has_channels_last(x):
            return drop(x.permute(0, 2, 3, 1), seed, dropped).permute(0, 3, 1, 2).detach()
        return drop(x.contiguous(), seed, dropped)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        x, ctx.seed, ctx.dropped = inputs
        ctx.layout = torch.channels_last if x.dim() == 4 and has_channels_last(x) else torch.contiguous_format

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient = gradient.contiguous(memory_format=ctx.layout)
        return _Drop.apply(gradient, ctx.seed, ctx.dropped), None, None
