"""SDA for inference: the same values from fewer passes over memory."""

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.inference.deform import PackedDeformConv2d
from nnunet_fganet.inference.packing import pack_convolution
from nnunet_fganet.network.norm import instance_norm
from nnunet_fganet.network.sda import SDA, offset_and_mask
from nnunet_fganet.network.spatial_shift import spatial_shift


class PreparedSDA(nn.Module):
    """See :class:`nnunet_fganet.network.sda.SDA`; channels last.

    ``dtype`` is that of images and plain convolutions, ``deform_dtype`` that of the deformable convolution.
    """

    def __init__(self, sda: SDA, dtype: torch.dtype, deform_dtype: torch.dtype) -> None:
        super().__init__()
        self.modulated, self.deform_dtype = sda.modulated, deform_dtype
        self.pointwise = pack_convolution(sda.pointwise, "none", dtype)
        self.offset_conv = pack_convolution(sda.offset_conv, "none", dtype)
        self.deform_conv = PackedDeformConv2d(sda.deform_conv, deform_dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to the same shape."""
        shifted = functional.gelu(instance_norm(spatial_shift(self.pointwise(x))))
        offset, mask = offset_and_mask(self.offset_conv(shifted), self.modulated)
        return gate(x, self.deform_conv(shifted.to(self.deform_dtype), offset, mask))


def gate(x: torch.Tensor, attention: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """``x`` times the sigmoid of the LayerNorm of ``attention``, over all but the first dimension.

    torch's LayerNorm takes one thread for one image, and copies what has channels last.
    """
    images = (1, 2, 3)
    mean = attention.mean(images, keepdim=True, dtype=torch.float32)
    attention = attention - mean
    variance = attention.square().mean(images, keepdim=True)
    return attention.mul_((variance + eps).rsqrt()).sigmoid_().mul_(x).to(x.dtype)
