"""Deformable convolution with its weights made ready once."""

import torch
from torch import nn

from nnunet_fganet.compiled.operators import BLOCK, deform_conv2d_rows
from nnunet_fganet.compiled.sampling import DTYPES
from nnunet_fganet.inference.packing import pack_matrix
from nnunet_fganet.network.deform_conv import DeformConv2d, choose_backend, deform_conv2d
from nnunet_fganet.network.deform_gather import channel_rows, positions, weight_matrix


class PackedDeformConv2d(nn.Module):
    """A deformable convolution for inference only; the gather of it runs block by block.

    Parameters
    ----------
    deform_conv
        The convolution; its weights are copied.
    dtype
        Of weights, input and output.
    """

    def __init__(self, deform_conv: DeformConv2d, dtype: torch.dtype) -> None:
        super().__init__()
        weight = deform_conv.weight.detach().to(dtype)
        self.bias = deform_conv.bias.detach().to(dtype)
        self.backend = choose_backend(deform_conv.backend, weight.device.type, dtype)
        self.in_blocks = self.backend == "gather" and weight.device.type == "cpu" and dtype in DTYPES
        # In blocks a matrix, otherwise as the convolution has it.
        self.weight = pack_matrix(weight_matrix(weight), BLOCK) if self.in_blocks else weight

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`."""
        if not self.in_blocks:
            return deform_conv2d(x, offset, self.weight, self.bias, mask, self.backend)
        batch, _, height, width = x.shape
        out = deform_conv2d_rows(channel_rows(x), *positions(offset, mask), height, width, self.weight, self.bias)
        return out.view(batch, height, width, -1).permute(0, 3, 1, 2)
