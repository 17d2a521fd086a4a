"""SDA: attention from a spatial shift and a deformable convolution."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_fganet.compiled.attention import EPS, shift_moments, shift_norm_gelu
from nnunet_fganet.compiled.attention_gradient import shift_norm_gelu_gradient
from nnunet_fganet.compiled.gate import gate, gate_gradients, image_moments
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.deform_conv import DeformConv2d
from nnunet_fganet.network.layout import image, image_rows
from nnunet_fganet.network.norm import InstanceNorm2d, computes_in_loops, image_norm
from nnunet_fganet.network.normalized import is_plain
from nnunet_fganet.network.rounded import (
    empty_rounded,
    exact,
    handed_on,
    image_results,
    is_rounded,
    rounds_images,
    without_exact,
)
from nnunet_fganet.network.spatial_shift import DIRECTIONS, spatial_shift

KERNEL_SIZE = 3
TAPS = KERNEL_SIZE * KERNEL_SIZE


class SDA(nn.Module):
    """Spatial-shift and deformable-convolution attention: ``x -> x * a``.

    ``r`` = 1x1 convolution, spatial shift, InstanceNorm, GELU of ``x``; offsets = 3x3 convolution of
    ``r``; ``a`` = sigmoid of the LayerNorm (over channels, height and width together) of the
    deformable convolution of ``r``. Both normalisations have no parameters.

    Parameters
    ----------
    channels
        Channels of input and output, a multiple of 8 (the directions of the spatial shift).
    modulated
        Also predict a factor in (0, 1) for each sampling point (the paper's Eq. 1; the released
        network has offsets only).
    backend
        See :data:`nnunet_fganet.network.deform_conv.BACKENDS`.
    zero_offsets
        Whether initialization starts with a plain convolution (all offsets zero).
    """

    def __init__(
        self, channels: int, modulated: bool = False, backend: str = "auto", zero_offsets: bool = True
    ) -> None:
        super().__init__()
        if channels % 8:
            raise ValueError(f"SDA needs a multiple of 8 channels, not {channels}")
        self.modulated = modulated
        self.zero_offsets = zero_offsets
        self.pointwise = Conv2d(channels, channels, 1)
        self.norm = InstanceNorm2d(channels)
        self.offset_conv = Conv2d(channels, (3 if modulated else 2) * TAPS, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.deform_conv = DeformConv2d(channels, channels, KERNEL_SIZE, backend)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to the same, :mod:`.rounded` where ``x`` is; at least two pixels."""
        shifted = self._shifted(self.pointwise(x))
        offset, mask = offset_and_mask(self.offset_conv(shifted), self.modulated)
        deformed = self.deform_conv(shifted, offset, mask)
        # Deformable convolutions may compute in bfloat16 where nothing else does.
        return self._gated(x, deformed.to(torch.float32 if is_rounded(x) else x.dtype))

    def _shifted(self, x: torch.Tensor) -> torch.Tensor:
        """GELU of the InstanceNorm of the spatial shift; a training on a CPU computes it in two passes.

        There it has no second gradients.
        """
        if self.training and _is_in_loops(self.norm) and computes_in_loops(x):
            return handed_on(*_Shifted.apply(x, rounds_images()))
        return functional.gelu(self.norm(spatial_shift(x)))

    def _gated(self, x: torch.Tensor, deformed: torch.Tensor) -> torch.Tensor:
        """``x`` times the sigmoid of the LayerNorm; a training on a CPU computes it in two passes.

        There it has no second gradients.
        """
        if self.training and computes_in_loops(x, deformed):
            return handed_on(*_Gated.apply(x, exact(x), deformed))
        return x * image_norm(deformed).sigmoid()


def _is_in_loops(norm: nn.Module) -> bool:
    """Whether a module is what :func:`shift_norm_gelu` computes, and nothing but that happens in its calls."""
    return type(norm) is InstanceNorm2d and norm.weight is None and norm.eps == EPS and is_plain(norm)


class _Shifted(torch.autograd.Function):
    """Keeps its input alone, and the moments of each channel."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rounds: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows, steps = image_rows(x), torch.tensor(DIRECTIONS)
        moments = shift_moments(rows, steps)
        ctx.save_for_backward(rows, steps, *moments)
        rounded = empty_rounded(rows, rounds)
        return image_results(ctx, shift_norm_gelu(rows, steps, moments, rounded=rounded), rounded)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: None) -> tuple[torch.Tensor, None]:
        rows, steps, *moments = ctx.saved_tensors
        return image(shift_norm_gelu_gradient(image_rows(gradient), rows, steps, tuple(moments))), None


class _Gated(torch.autograd.Function):
    """Keeps what it is given alone, and the moments of each image: the sigmoid is computed again for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, numbers: torch.Tensor, deformed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows, attention = image_rows(numbers), image_rows(deformed)
        moments = image_moments(attention)
        ctx.save_for_backward(image_rows(without_exact(x)), attention, moments)
        rounded = empty_rounded(rows, x.dtype == torch.bfloat16)
        return image_results(ctx, gate(rows, attention, moments, rounded), rounded)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        of_rows, of_attention = gate_gradients(image_rows(gradient), *ctx.saved_tensors)
        return image(of_rows), None, image(of_attention)


def offset_and_mask(points: torch.Tensor, modulated: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Split the output of the offset convolution, ``(batch, 2 k k or 3 k k, height, width)``."""
    if not modulated:
        return points, None
    return points[:, : 2 * TAPS], points[:, 2 * TAPS :].sigmoid()
