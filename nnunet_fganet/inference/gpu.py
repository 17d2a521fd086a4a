"""Parts of FGA-Net for inference on a GPU: convolutions and products by torch, the rest by Triton kernels.

All take and return images with channels last.
"""

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.gpu import attention, bilateral, pointwise
from nnunet_fganet.inference.bga import PreparedBGA, PreparedDecoderStage
from nnunet_fganet.inference.packing import SLOPES
from nnunet_fganet.network.deform_gather import deform_conv2d_sampled, weight_matrix
from nnunet_fganet.network.layout import image, image_rows
from nnunet_fganet.network.sda import SDA, offset_and_mask
from nnunet_fganet.network.spatial_shift import DIRECTIONS

_CHANNEL_MULTIPLE = 8  # cuDNN pads other numbers of channels, by kernels of its own


class GpuConv2d(nn.Module):
    """A convolution with its activation; see :class:`nnunet_fganet.inference.packing.PackedConv2d`."""

    def __init__(self, conv: nn.Conv2d, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.slope = SLOPES[activation]
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.padding = tuple(size // 2 for size in conv.kernel_size)
        self.is_product = conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1
        weight = conv.weight.detach().to(dtype)
        self.weight = weight.flatten(1) if self.is_product else weight.contiguous(memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to the convolution's output, activated."""
        if self.is_product:
            out = image(functional.linear(image_rows(x), self.weight, self.bias))
            return out if self.slope == 1 else functional.leaky_relu_(out, self.slope)
        out = self.convolve(x)
        if self.bias is None:
            return out if self.slope == 1 else functional.leaky_relu_(out, self.slope)
        rows = image_rows(out)  # a copy, where torch has not convolved with channels last
        pointwise.add_bias_and_activate(rows, self.bias, self.slope)
        return image(rows)

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Without bias and activation."""
        return functional.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)


class GpuMaxPool2d(nn.Module):
    """``torch.nn.MaxPool2d(2)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)``, even sizes, to half the height and width."""
        return image(pointwise.max_pool2(image_rows(x)))


class GpuSDA(nn.Module):
    """See :class:`nnunet_fganet.network.sda.SDA`."""

    def __init__(self, sda: SDA, dtype: torch.dtype) -> None:
        super().__init__()
        self.modulated = sda.modulated
        self.pointwise = GpuConv2d(sda.pointwise, "none", dtype)
        self.points = sda.offset_conv.out_channels
        self.offset_conv = GpuConv2d(_widened(sda.offset_conv), "none", dtype)
        self.offset_bias = sda.offset_conv.get_parameter("bias").detach().float().view(-1, 1, 1)
        self.weight = weight_matrix(sda.deform_conv.weight.detach().to(dtype)).contiguous()
        self.bias = sda.deform_conv.bias.detach().to(dtype)
        steps = torch.tensor(DIRECTIONS, dtype=torch.int32, device=self.weight.device)
        self.steps = steps.repeat_interleave(sda.pointwise.out_channels // len(DIRECTIONS), dim=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to the same shape."""
        shifted = image(attention.shift_norm_gelu(image_rows(self.pointwise(x)), self.steps))
        points = self.offset_conv.convolve(shifted)[:, : self.points] + self.offset_bias  # float32 from here on
        offset, mask = offset_and_mask(points, self.modulated)
        deformed = deform_conv2d_sampled(shifted, offset, self.weight, self.bias, mask)
        return image(attention.gate(image_rows(x), image_rows(deformed)))


class GpuBGA(PreparedBGA):
    """See :class:`nnunet_fganet.inference.bga.PreparedBGA`."""

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """See :meth:`nnunet_fganet.network.bga.BGA.forward`."""
        fine = image_rows(self.low_fine(low))
        gate, coarse = _without_bias(self.high_fine, high), _without_bias(self.low_coarse, low)
        bilateral.gate_and_add(fine, *gate, *coarse, image_rows(self.high_coarse(high)))
        return self.fusion(image(fine))


class GpuDecoderStage(PreparedDecoderStage):
    """See :class:`nnunet_fganet.inference.bga.PreparedDecoderStage`."""

    def join(self, fused: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """See :meth:`nnunet_fganet.inference.bga.PreparedDecoderStage.join`."""
        return image(bilateral.join(image_rows(fused), image_rows(deep)))


def _widened(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution without bias whose last output channels, up to the next multiple, are zeros."""
    channels = -(-conv.out_channels // _CHANNEL_MULTIPLE) * _CHANNEL_MULTIPLE
    kernel_size, padding = conv.kernel_size[0], conv.kernel_size[0] // 2
    widened = nn.utils.skip_init(  # random numbers are the caller's
        nn.Conv2d, conv.in_channels, channels, kernel_size, padding=padding, bias=False, device=conv.weight.device
    )
    nn.init.zeros_(widened.weight)
    widened.weight[: conv.out_channels] = conv.weight
    return widened


def _without_bias(layers: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that a sequence returns, and a bias that is still to be added."""
    first = layers[0] if isinstance(layers, nn.Sequential) and len(layers) == 1 else None
    if isinstance(first, GpuConv2d) and first.bias is not None and first.slope == 1:
        return image_rows(first.convolve(x)), first.bias
    rows = image_rows(layers(x))
    return rows, rows.new_zeros(rows.shape[-1])
