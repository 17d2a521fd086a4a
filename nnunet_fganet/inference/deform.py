"""Deformable convolution with its weights made ready once."""

import torch
from torch import nn

from nnunet_fganet.compiled.levels import level_weight, multiplies_levels
from nnunet_fganet.compiled.matrix_units import tiles_of
from nnunet_fganet.compiled.operators import deform_conv2d_level_rows, deform_conv2d_rows
from nnunet_fganet.compiled.sample_products import multiplies_samples
from nnunet_fganet.compiled.sampling import BLOCK, DTYPES
from nnunet_fganet.inference.packing import pack_matrix
from nnunet_fganet.network.deform_conv import DeformConv2d, choose_backend, deform_conv2d
from nnunet_fganet.network.deform_gather import channel_rows, positions, weight_matrix

# With fewer, what is rounded evens out over fewer products, and little time is saved.
CHANNELS_OF_LEVELS = 256


class PackedDeformConv2d(nn.Module):
    """A deformable convolution for inference only; the gather of it runs block by block.

    In bfloat16 those of many channels that may be rounded (:attr:`.DeformConv2d.by_integers`) multiply 8-bit integers,
    where the processor does (:mod:`nnunet_fganet.compiled.levels`).

    Parameters
    ----------
    deform_conv
        The convolution; its weights are copied.
    dtype
        Of input and output, and of the weights unless they have 8 bits.

    Attributes
    ----------
    takes
        What the input may be in; the output is in the same.
    """

    def __init__(self, deform_conv: DeformConv2d, dtype: torch.dtype) -> None:
        super().__init__()
        weight = deform_conv.weight.detach().to(dtype)
        self.bias = deform_conv.bias.detach().to(dtype)
        self.backend = choose_backend(deform_conv.backend, weight.device.type, dtype)
        self.in_blocks = self.backend == "gather" and weight.device.type == "cpu" and dtype in DTYPES
        is_wide = deform_conv.by_integers and weight.shape[1] >= CHANNELS_OF_LEVELS
        self.in_levels = self.in_blocks and dtype == torch.bfloat16 and is_wide and multiplies_levels()
        if self.in_levels:
            self.weight, self.unit, self.total = level_weight(
                weight_matrix(deform_conv.weight.detach().float()), weight.shape[1]
            )
            self.bias = deform_conv.bias.detach().float()
        elif self.in_blocks and dtype == torch.bfloat16 and multiplies_samples(weight.shape[1]):
            self.weight, self.bias = tiles_of(weight_matrix(weight)), deform_conv.bias.detach().float()
        else:  # in blocks a matrix, otherwise as the convolution has it
            self.weight = pack_matrix(weight_matrix(weight), BLOCK) if self.in_blocks else weight
        # Of images in float16 samples are taken in half the time, and they need not be rounded to bfloat16 first.
        is_in_tiles = self.in_blocks and self.weight.ndim > 2
        self.takes = {dtype, torch.float16} if is_in_tiles else {dtype}

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`; factors of ``mask`` are between 0 and 1."""
        if not self.in_blocks:
            return deform_conv2d(x, offset, self.weight, self.bias, mask, self.backend)
        batch, _, height, width = x.shape
        given = (channel_rows(x), *positions(offset, mask), height, width, self.weight)
        if self.in_levels:
            out = deform_conv2d_level_rows(*given, self.unit, self.total, self.bias)
        else:
            out = deform_conv2d_rows(*given, self.bias)
        return out.view(batch, height, width, -1).permute(0, 3, 1, 2)
