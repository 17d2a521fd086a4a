"""BGA: bilateral guided aggregation of encoder features and deeper features."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_fganet.compiled.bilateral import gate_and_add, gate_and_add_gradients, join
from nnunet_fganet.compiled.pointwise import gate_by_sigmoid
from nnunet_fganet.compiled.upsampling_gradient import upsampling_gradient
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.layout import image, image_rows
from nnunet_fganet.network.norm import computes_in_loops, has_channels_last, norm_layer
from nnunet_fganet.network.normalized import NormalizedConvolutions
from nnunet_fganet.network.rounded import empty_rounded, exact, handed_on, image_results, without_exact


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

    There it has no second gradients, and in bfloat16 the image that comes out is :mod:`.rounded`.
    """
    if training and computes_in_loops(fused, deep):
        return handed_on(*_Concatenated.apply(fused, deep, exact(fused), exact(deep)))
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
        """Join encoder features ``(batch, C, 2h, 2w)`` and deeper ones ``(batch, C, h, w)``, at the finer size.

        A training in bfloat16 returns the image :mod:`.rounded`.
        """
        fine, coarse = (self.low_fine(low), self.low_coarse(low)), (self.high_fine(high), self.high_coarse(high))
        return self.fusion(self._joined(*fine, *coarse))

    def _joined(
        self, low_fine: torch.Tensor, low_coarse: torch.Tensor, high_fine: torch.Tensor, high_coarse: torch.Tensor
    ) -> torch.Tensor:
        """``low_fine * sigmoid(upsample2(high_fine)) + upsample2(low_coarse * sigmoid(high_coarse))``.

        A training on a CPU computes it in two passes.
        """
        given = low_fine, low_coarse, high_fine, high_coarse
        if self.training and computes_in_loops(*given):
            return handed_on(*_Joined.apply(*given, *(exact(each) for each in given)))
        return low_fine * upsample2(high_fine).sigmoid() + upsample2(low_coarse * high_coarse.sigmoid())


class _Joined(torch.autograd.Function):
    """Keeps what it is given alone: upsampling and sigmoids are computed again for the gradients."""

    @staticmethod
    def forward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        low_coarse, high_fine, high_coarse = (image_rows(without_exact(x)) for x in given[1:4])
        fine, coarse, gate, coarse_gate = (image_rows(x) for x in given[4:])
        ctx.save_for_backward(fine, low_coarse, high_fine, high_coarse)
        opened = coarse.clone()
        gate_by_sigmoid(opened, coarse_gate)
        out, rounded = torch.empty_like(fine), empty_rounded(fine, high_fine.dtype == torch.bfloat16)
        gate_and_add(fine, gate, opened, out, rounded)
        return image_results(ctx, out, rounded)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        fine, low_coarse, high_fine, high_coarse = ctx.saved_tensors
        given = image_rows(gradient)
        of_fine, of_upsampled = gate_and_add_gradients(given, fine, high_fine)
        of_coarse, opened = upsampling_gradient(given), high_coarse.sigmoid()
        of_gate = torch.ops.aten.sigmoid_backward(of_coarse * low_coarse, opened)
        found = of_fine, of_coarse * opened, upsampling_gradient(of_upsampled), of_gate
        return *(image(each) for each in found), *4 * (None,)


class _Concatenated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        ctx.channels = given[0].shape[1]
        fused, deep = (image_rows(x) for x in given[2:])
        shape = *fused.shape[:3], fused.shape[3] + deep.shape[3]
        rounds = given[0].dtype == torch.bfloat16
        rounded = fused.new_empty(shape, dtype=torch.bfloat16) if rounds else None
        return image_results(ctx, join(fused, deep, rounded), rounded)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        of_deep = upsampling_gradient(image_rows(gradient), ctx.channels)
        return gradient[:, : ctx.channels], image(of_deep), None, None


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
