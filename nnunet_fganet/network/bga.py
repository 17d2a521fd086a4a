"""BGA: bilateral guided aggregation of encoder features and deeper features."""

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.norm import has_channels_last, norm_layer


def upsample2(x: torch.Tensor) -> torch.Tensor:
    """Bilinear to twice the height and width, corners aligned."""
    out = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    if out.requires_grad and out.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        layout = torch.channels_last if has_channels_last(out) else torch.contiguous_format
        # On CPUs torch takes twenty times as long for a gradient that is a part of another one: behind a concatenation.
        out.register_hook(lambda gradient: None if gradient is None else gradient.contiguous(memory_format=layout))
    return out


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
        self.fusion = nn.Sequential(
            Conv2d(channels, channels, fusion_kernel_size, padding=fusion_kernel_size // 2, bias=False),
            norm_layer(norm, channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Join encoder features ``(batch, C, 2h, 2w)`` and deeper ones ``(batch, C, h, w)``, at the finer size."""
        fine = self.low_fine(low) * upsample2(self.high_fine(high)).sigmoid()
        coarse = self.low_coarse(low) * self.high_coarse(high).sigmoid()
        return self.fusion(fine + upsample2(coarse))


def _convolution(channels: int, norm: str, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False), norm_layer(norm, channels)
    )


def _separable(channels: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        norm_layer(norm, channels),
        Conv2d(channels, channels, 1, bias=False),
    )
