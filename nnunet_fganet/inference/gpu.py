"""Parts of FGA-Net for inference on a GPU: convolutions and products by torch, the rest by Triton kernels.

All take and return images with channels last.
"""

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.gpu import attention, bilateral, pointwise
from nnunet_fganet.inference.bga import PreparedBGA
from nnunet_fganet.inference.packing import SLOPES
from nnunet_fganet.network.decoder import DecoderStage
from nnunet_fganet.network.deform_gather import deform_conv2d_sampled, weight_matrix
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
            out = _image(functional.linear(_rows(x), self.weight, self.bias))
            return out if self.slope == 1 else functional.leaky_relu_(out, self.slope)
        out = self.convolve(x)
        if self.bias is None:
            return out if self.slope == 1 else functional.leaky_relu_(out, self.slope)
        rows = _rows(out)  # a copy, where torch has not convolved with channels last
        pointwise.add_bias_and_activate(rows, self.bias, self.slope)
        return _image(rows)

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Without bias and activation."""
        return functional.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)


class GpuMaxPool2d(nn.Module):
    """``torch.nn.MaxPool2d(2)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)``, even sizes, to half the height and width."""
        return _image(pointwise.max_pool2(_rows(x)))


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
        shifted = _image(attention.shift_norm_gelu(_rows(self.pointwise(x)), self.steps))
        points = self.offset_conv.convolve(shifted)[:, : self.points] + self.offset_bias  # float32 from here on
        offset, mask = offset_and_mask(points, self.modulated)
        deformed = deform_conv2d_sampled(shifted, offset, self.weight, self.bias, mask)
        return _image(attention.gate(_rows(x), _rows(deformed)))


class GpuBGA(PreparedBGA):
    """See :class:`nnunet_fganet.inference.bga.PreparedBGA`."""

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """See :meth:`nnunet_fganet.network.bga.BGA.forward`."""
        fine = _rows(self.low_fine(low))
        gate, coarse = _without_bias(self.high_fine, high), _without_bias(self.low_coarse, low)
        bilateral.gate_and_add(fine, *gate, *coarse, _rows(self.high_coarse(high)))
        return self.fusion(_image(fine))


class GpuDecoderStage(nn.Module):
    """See :class:`nnunet_fganet.network.decoder.DecoderStage`; its parts are ready already."""

    def __init__(self, stage: DecoderStage) -> None:
        super().__init__()
        self.match, self.bga, self.sda, self.block = stage.match, stage.bga, stage.sda, stage.block

    def forward(self, deep: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """See :meth:`nnunet_fganet.network.decoder.DecoderStage.forward`."""
        deep = self.match(deep)
        fused = skip if self.bga is None else self.bga(skip, deep)
        return self.block(self.sda(_image(bilateral.join(_rows(fused), _rows(deep)))))


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def _image(rows: torch.Tensor) -> torch.Tensor:
    return rows.permute(0, 3, 1, 2)


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
        return _rows(first.convolve(x)), first.bias
    rows = _rows(layers(x))
    return rows, rows.new_zeros(rows.shape[-1])
