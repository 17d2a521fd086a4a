"""Deformable convolution with its weights made ready once."""

import torch
from torch import nn

from nnunet_fganet.network.deform_conv import DeformConv2d, choose_backend, deform_conv2d
from nnunet_fganet.network.deform_gather import sampled_rows, weight_matrix, weighted_rows

# Pixels whose samples are gathered before they are multiplied: the samples of 2,048 pixels stay in
# the cache between the two, and those of a whole frame would take 151 MB at 128 x 128 x 256.
BLOCK = 2048


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
        self.kernel_size = deform_conv.weight.shape[-1]
        weight = deform_conv.weight.detach().to(dtype)
        self.bias = deform_conv.bias.detach().to(dtype)
        self.backend = choose_backend(deform_conv.backend, weight.device.type, dtype)
        # For the gather a matrix (taps and channels, out channels), otherwise as the convolution has it.
        self.weight = weight_matrix(weight).t().contiguous() if self.backend == "gather" else weight

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`."""
        if self.backend != "gather":
            return deform_conv2d(x, offset, self.weight, self.bias, mask, self.backend)
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        index, share = sampled_rows(offset, mask, self.kernel_size)
        taps = self.kernel_size**2
        out = rows.new_empty(len(rows), self.weight.shape[1])
        for start in range(0, len(rows), BLOCK):
            pixels = slice(start, start + BLOCK)
            samples = slice(start * taps, (start + BLOCK) * taps)
            columns = weighted_rows(rows, index[samples], share[samples]).view(-1, self.weight.shape[0])
            torch.addmm(self.bias, columns, self.weight, out=out[pixels])
        return out.view(batch, height, width, -1).permute(0, 3, 1, 2)
