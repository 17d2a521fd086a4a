"""Deformable convolution as a weighted gather of rows: all samples first, then one matrix product.

With channels last a pixel is one contiguous row, and a bilinear sample is a weighted sum of four
rows. On CPUs compiled loops take the samples (in float32, bfloat16 and float16), on GPUs Triton kernels;
``embedding_bag``, which is differentiable too, everywhere and in every floating-point type.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_fganet.compiled.fixed_point import MOST_PRODUCTS
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.operators import deform_conv2d_rows, sampled_columns, sampled_columns_gradients
from nnunet_fganet.compiled.sample_fixed_point import multiply_sample_integers
from nnunet_fganet.compiled.sample_weight_gradient import multiplies_gradients, sample_weight_gradient
from nnunet_fganet.compiled.sampling import DTYPES
from nnunet_fganet.network.rounded import exact

CORNERS = 4


def deform_conv2d_gather(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`; loops on the CPU, ``embedding_bag`` elsewhere."""
    if x.device.type == "cpu" and x.dtype in DTYPES:
        return deform_conv2d_sampled(x, offset, weight, bias, mask)
    columns = weighted_rows(channel_rows(x), *sampled_rows(offset, mask, weight.shape[-1]))
    return _product(columns, weight_matrix(weight), bias, x.shape)


def deform_conv2d_sampled(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`; loops on the CPU, Triton kernels on GPUs.

    ``weight`` may be a :func:`weight_matrix` already.
    """
    columns = sampled_columns(channel_rows(x), *positions(offset, mask), *x.shape[2:])
    return _product(columns, weight if weight.ndim == 2 else weight_matrix(weight), bias, x.shape)


def deform_conv2d_float32_forward(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mask: torch.Tensor | None,
    by_integers: bool = True,
) -> torch.Tensor:
    """See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`; on CPUs, only the backward pass in bfloat16.

    ``by_integers``: where there are matrix units, products are those of 16-bit integers; what is NaN or infinite in
    ``x`` or ``mask`` then makes NaN of its image.

    What a forward pass rounds turns the gradients of a trained network, what the backward pass rounds hardly does
    (docs/performance.md). Samples are taken anew for the gradients instead of kept. No second gradients.
    """
    batch, _, height, width = x.shape
    rows, numbers, places = channel_rows(x), channel_rows(exact(x)), positions(offset, mask)
    out = _Float32Forward.apply(rows, numbers, *places, weight_matrix(weight), bias, height, width, by_integers)
    return out.view(batch, height, width, len(bias)).permute(0, 3, 1, 2)


class _Float32Forward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        numbers: torch.Tensor,
        offset: torch.Tensor,
        mask: torch.Tensor | None,
        matrix: torch.Tensor,
        bias: torch.Tensor,
        height: int,
        width: int,
        by_integers: bool,
    ) -> torch.Tensor:
        if by_integers and has_matrix_units() and matrix.shape[1] <= MOST_PRODUCTS:
            rounded = torch.empty_like(matrix, dtype=torch.bfloat16, memory_format=torch.contiguous_format)
            weight = fixed_point_weight(matrix[:, :, None, None], rounded)
            out = multiply_sample_integers(numbers, offset, mask, (height, width), *weight, bias)
        else:
            rounded = matrix.bfloat16()
            out = deform_conv2d_rows(numbers, offset, mask, height, width, matrix.contiguous(), bias)
        ctx.dtype, ctx.masked, ctx.height, ctx.width = rows.dtype, mask is not None, height, width
        # Detached: exact numbers (see .rounded) would be kept with what they belong to.
        ctx.save_for_backward(rows.detach().bfloat16(), offset, rounded, *([mask] if ctx.masked else []))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, offset, matrix, *masks = ctx.saved_tensors
        where = (rows, offset, masks[0] if ctx.masked else None, ctx.height, ctx.width)
        with torch.autocast("cpu", enabled=False):  # a caller's may still be on
            rounded = gradient.bfloat16().contiguous()
            columns_gradient = (rounded @ matrix).view(len(rows), offset.shape[1], rows.shape[1])
            of_rows, of_offset, of_mask = sampled_columns_gradients(*where, columns_gradient)
            of_matrix = _matrix_gradient(*where, rounded)
        of_mask = of_mask if ctx.masked else None
        return of_rows.to(ctx.dtype), None, of_offset, of_mask, of_matrix, gradient.sum(0), None, None, None


def _matrix_gradient(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    gradient: torch.Tensor,
) -> torch.Tensor:
    """Gradient of a :func:`weight_matrix`, float32, from that of the output ``(batch * height * width, channels)``."""
    if multiplies_gradients(rows.shape[1], gradient.shape[1]):
        return sample_weight_gradient(rows, offset, mask, (height, width), gradient)
    return (gradient.t().contiguous() @ sampled_columns(rows, offset, mask, height, width).flatten(1)).float()


def _product(columns: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None, shape: torch.Size) -> torch.Tensor:
    batch, _, height, width = shape
    out = functional.linear(columns.view(batch * height * width, matrix.shape[1]), matrix, bias)
    return out.view(batch, height, width, matrix.shape[0]).permute(0, 3, 1, 2)


def channel_rows(x: torch.Tensor) -> torch.Tensor:
    """``(batch, channels, height, width)`` to ``(batch * height * width, channels)``, contiguous."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def positions(offset: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Offsets ``(batch, 2 taps, height, width)`` and factors ``(batch, taps, height, width)`` pixel by pixel.

    Returns ``(batch * height * width, taps, 2)`` and ``(batch * height * width, taps)``, contiguous, float32:
    bfloat16 resolves two pixels at column 300.
    """
    taps = offset.shape[1] // 2
    offset = channel_rows(offset.float()).view(-1, taps, 2)
    return offset, None if mask is None else channel_rows(mask.float())


def weight_matrix(weight: torch.Tensor) -> torch.Tensor:
    """``(out_channels, channels, k, k)`` to ``(out_channels, k * k * channels)``: taps in rows, channels last."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def weighted_rows(rows: torch.Tensor, index: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Weighted sums of four rows each.

    Parameters
    ----------
    rows
        ``(pixels, channels)``.
    index, share
        ``(samples, 4)``: row numbers and their weights.

    Returns
    -------
    torch.Tensor
        ``(samples, channels)``, of the dtype of ``rows``.
    """
    return functional.embedding_bag(index, rows, mode="sum", per_sample_weights=share.to(rows.dtype))


def sampled_rows(
    offset: torch.Tensor, mask: torch.Tensor | None, kernel_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that each sample reads, and their weights.

    Parameters
    ----------
    offset, mask
        See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`.
    kernel_size
        k of a k x k convolution.

    Returns
    -------
    index, share
        ``(batch * height * width * k * k, 4)``: the number of a row in the flattened ``(batch * height
        * width, channels)`` input, and its bilinear weight (0 outside the image), float32.
    """
    batch, _, height, width = offset.shape
    # Positions need float32: bfloat16 resolves 2 pixels at column 300.
    offset = offset.float().permute(0, 2, 3, 1).reshape(batch, height, width, -1, 2)
    tap = torch.arange(kernel_size * kernel_size, device=offset.device)
    row_of_tap = torch.div(tap, kernel_size, rounding_mode="floor") - kernel_size // 2
    column_of_tap = tap % kernel_size - kernel_size // 2
    rows = torch.arange(height, device=offset.device).view(-1, 1, 1) + row_of_tap
    columns = torch.arange(width, device=offset.device).view(-1, 1) + column_of_tap
    top, bottom, top_share, bottom_share = _neighbours(rows + offset[..., 0], height)
    left, right, left_share, right_share = _neighbours(columns + offset[..., 1], width)
    if mask is not None:
        modulation = mask.permute(0, 2, 3, 1).float()
        top_share, bottom_share = top_share * modulation, bottom_share * modulation
    first_row = (torch.arange(batch, device=offset.device) * height).view(-1, 1, 1, 1)
    top, bottom = (first_row + top) * width, (first_row + bottom) * width
    index = torch.stack((top + left, top + right, bottom + left, bottom + right), dim=-1)
    share = torch.stack(
        (top_share * left_share, top_share * right_share, bottom_share * left_share, bottom_share * right_share), dim=-1
    )
    return index.view(-1, CORNERS), share.view(-1, CORNERS)


def _neighbours(position: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The two pixels around a position along one axis, and their linear weights (0 outside)."""
    # Beyond these bounds every weight and gradient is 0 anyway: clamping keeps infinite positions out
    # of the arithmetic, and lets NaN through to the weights. (Not at -1: there the gradient counts.)
    position = position.clamp(-2, size + 1)
    floor = position.detach().floor()
    fraction = position - floor
    low = floor.nan_to_num(0).long()
    high = low + 1
    low_share = torch.where((low >= 0) & (low < size), 1 - fraction, 0)
    high_share = torch.where((high >= 0) & (high < size), fraction, 0)
    return low.clamp(0, size - 1), high.clamp(0, size - 1), low_share, high_share
