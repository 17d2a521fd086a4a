"""SDA for inference: the same values from fewer passes over memory."""

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.compiled.half import NUMBERS
from nnunet_fganet.compiled.operators import gate_rows, shift_norm_gelu_rows
from nnunet_fganet.inference.deform import PackedDeformConv2d
from nnunet_fganet.inference.packing import Bfloat16Conv2d, pack_convolution
from nnunet_fganet.network.layout import converted, image, image_rows
from nnunet_fganet.network.norm import image_norm, instance_norm
from nnunet_fganet.network.sda import SDA, offset_and_mask
from nnunet_fganet.network.spatial_shift import DIRECTIONS, spatial_shift


class PreparedSDA(nn.Module):
    """See :class:`nnunet_fganet.network.sda.SDA`; channels last.

    ``dtype`` is that of images and plain convolutions, ``deform_dtype`` that of the deformable convolution; it is given
    images in float16 where both it and the convolution of the offsets take them.
    """

    def __init__(self, sda: SDA, dtype: torch.dtype, deform_dtype: torch.dtype) -> None:
        super().__init__()
        self.modulated = sda.modulated
        self.pointwise = pack_convolution(sda.pointwise, "none", dtype)
        self.offset_conv = pack_convolution(sda.offset_conv, "none", dtype)
        self.deform_conv = PackedDeformConv2d(sda.deform_conv, deform_dtype)
        device = self.deform_conv.bias.device
        self.in_loops = device.type == "cpu" and {dtype, deform_dtype} <= set(NUMBERS)
        # Of the packed convolutions in bfloat16, only these take float16.
        by_halves = isinstance(self.offset_conv, Bfloat16Conv2d) and torch.float16 in self.deform_conv.takes
        self.shifted_dtype = torch.float16 if by_halves else dtype
        self.deform_dtype = self.shifted_dtype if self.shifted_dtype in self.deform_conv.takes else deform_dtype
        self.steps = torch.tensor(DIRECTIONS, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to the same shape."""
        shifted = self._shifted(self.pointwise(x))
        offset, mask = offset_and_mask(self.offset_conv(shifted), self.modulated)
        attention = self.deform_conv(converted(shifted, self.deform_dtype), offset, mask)
        if not self.in_loops:
            return x * image_norm(attention.to(x.dtype)).sigmoid()
        return image(gate_rows(image_rows(x), image_rows(attention)))

    def _shifted(self, x: torch.Tensor) -> torch.Tensor:
        if not self.in_loops:
            return functional.gelu(instance_norm(spatial_shift(x)))
        return image(shift_norm_gelu_rows(image_rows(x), self.steps, self.shifted_dtype))
