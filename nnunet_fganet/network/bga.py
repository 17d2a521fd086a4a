"""BGA: bilateral guided aggregation of encoder features and deeper features."""

from typing import Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_fganet.compiled.bilateral import gate_and_add, gate_and_add_gradients, join
from nnunet_fganet.compiled.upsampling_gradient import upsampling_gradient
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.layout import image_rows
from nnunet_fganet.network.norm import computes_in_loops, has_channels_last, norm_layer
from nnunet_fganet.network.normalized import NormalizedConvolutions


def upsample2(x: torch.Tensor) -> torch.Tensor:
    """Bilinear to twice the height and width, corners aligned."""
    out = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    if out.requires_grad and out.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        layout = torch.channels_last if has_channels_last(out) else torch.contiguous_format
        # On CPUs torch takes twenty times as long for a gradient that is a part of another one: behind a concatenation.
        out.register_hook(lambda gradient: None if gradient is None else gradient.contiguous(memory_format=layout))
    return out


def concatenate(fused: torch.Tensor, deep: torch.Tensor, training: bool) -> torch.Tensor:
    """Channels of ``fused``, then those of ``deep`` by :func:`upsample2`; in training on a CPU in one pass.

    There it has no second gradients.
    """
    if training and computes_in_loops(fused, deep):
        return cast(torch.Tensor, _Concatenated.apply(fused, deep))
    return torch.cat((fused, upsample2(deep)), dim=1)


class BGA(nn.Module):
    """Each of two branches gates the other, at both resolutions; a convolution joins the results.

    Parameters
    ----------
    channels
        Channels of both inputs and of the output.
    norm
        See :data:`nnunet_fganet.network.norm.NORMS`.
    fusion_kernel_size
        Kernel of the last convolution: 3 as released, 1 as in the paper's text.
    """

    def __init__(self, channels: int, norm: str = "batch", fusion_kernel_size: int = 3) -> None:
        super().__init__()
        self.low_fine = _separable(channels, norm)
        self.low_coarse = _convolution(channels, norm, stride=2)
        self.high_fine = _convolution(channels, norm)
        self.high_coarse = _separable(channels, norm)
        self.fusion = NormalizedConvolutions(
            Conv2d(channels, channels, fusion_kernel_size, padding=fusion_kernel_size // 2, bias=False),
            norm_layer(norm, channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Join encoder features ``(batch, C, 2h, 2w)`` and deeper ones ``(batch, C, h, w)``, at the finer size."""
        coarse = self.low_coarse(low) * self.high_coarse(high).sigmoid()
        return self.fusion(self._joined(self.low_fine(low), self.high_fine(high), coarse))

    def _joined(self, fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """``fine * sigmoid(upsample2(gate)) + upsample2(coarse)``; a training on a CPU computes it in one pass."""
        if self.training and computes_in_loops(fine, gate, coarse):
            return cast(torch.Tensor, _Joined.apply(fine, gate, coarse))
        return fine * upsample2(gate).sigmoid() + upsample2(coarse)


class _Joined(torch.autograd.Function):
    """Keeps what it is given alone: the gate's upsampling and sigmoid are computed again for the gradients."""

    @staticmethod
    def forward(ctx: Any, fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        fine, gate, coarse = (image_rows(x) for x in (fine, gate, coarse))
        ctx.save_for_backward(fine, gate)
        out = torch.empty_like(fine)
        gate_and_add(fine, gate, coarse, out)
        return out.permute(0, 3, 1, 2).detach()  # see NormalizedConvolutions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine, gate = ctx.saved_tensors
        given = image_rows(gradient)
        of_fine, of_opened = gate_and_add_gradients(given, fine, gate)
        found = of_fine, upsampling_gradient(of_opened), upsampling_gradient(given)
        return tuple(each.permute(0, 3, 1, 2) for each in found)


class _Concatenated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fused: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        ctx.channels = fused.shape[1]
        return join(image_rows(fused), image_rows(deep)).permute(0, 3, 1, 2).detach()  # see NormalizedConvolutions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        of_deep = upsampling_gradient(image_rows(gradient), ctx.channels)
        return gradient[:, : ctx.channels], of_deep.permute(0, 3, 1, 2)


def _convolution(channels: int, norm: str, stride: int = 1) -> NormalizedConvolutions:
    return NormalizedConvolutions(
        Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False), norm_layer(norm, channels)
    )


def _separable(channels: int, norm: str) -> NormalizedConvolutions:
    return NormalizedConvolutions(
        Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        norm_layer(norm, channels),
        Conv2d(channels, channels, 1, bias=False),
    )
