"""The compiled loops as operators of torch, which ``torch.compile`` knows; samples have gradients."""

from typing import Any

import torch

from nnunet_fganet.compiled import attention
from nnunet_fganet.compiled.bfloat16_conv import bfloat16_conv2d
from nnunet_fganet.compiled.bilateral import gate_and_add, join
from nnunet_fganet.compiled.depthwise import depthwise_conv2d
from nnunet_fganet.compiled.few_channels import conv2d_from_few, product_to_few
from nnunet_fganet.compiled.fixed_point import fixed_point_conv2d
from nnunet_fganet.compiled.gate import gate
from nnunet_fganet.compiled.levels import deform_conv2d_levels
from nnunet_fganet.compiled.pointwise import gate_by_sigmoid, max_pool2
from nnunet_fganet.compiled.sample_products import multiply_samples
from nnunet_fganet.compiled.sampling import BLOCK, sample_columns, sample_gradients
from nnunet_fganet.compiled.winograd import winograd_conv2d


@torch.library.custom_op("nnunet_fganet::sampled_columns", mutates_args=())
def sampled_columns(
    rows: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None, height: int, width: int
) -> torch.Tensor:
    """Samples of all pixels, ``(batch * height * width, taps, channels)``; see :func:`.sampling.sample_columns`."""
    columns = rows.new_empty(len(rows), offset.shape[1], rows.shape[1])
    sample_columns(rows, offset, mask, (height, width), 0, columns)
    return columns


@sampled_columns.register_kernel("cuda")
def _(rows: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None, height: int, width: int) -> torch.Tensor:
    from nnunet_fganet.gpu.sampling import sample_columns

    return sample_columns(rows, offset, mask, (height, width))


@sampled_columns.register_fake
def _(rows: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None, height: int, width: int) -> torch.Tensor:
    return rows.new_empty(rows.shape[0], offset.shape[1], rows.shape[1])


@torch.library.custom_op("nnunet_fganet::sampled_columns_gradients", mutates_args=())
def sampled_columns_gradients(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    columns_gradient: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients for rows, offset and mask (empty where there is none); see :func:`.sampling.sample_gradients`."""
    rows_gradient, offset_gradient, mask_gradient = sample_gradients(
        rows, offset, mask, (height, width), columns_gradient.contiguous()
    )
    return rows_gradient.to(rows.dtype), offset_gradient, rows.new_empty(0) if mask_gradient is None else mask_gradient


@sampled_columns_gradients.register_kernel("cuda")
def _(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    columns_gradient: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from nnunet_fganet.gpu.sampling import sample_gradients

    rows_gradient, offset_gradient, mask_gradient = sample_gradients(
        rows, offset, mask, (height, width), columns_gradient
    )
    return rows_gradient.to(rows.dtype), offset_gradient, rows.new_empty(0) if mask_gradient is None else mask_gradient


@sampled_columns_gradients.register_fake
def _(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    columns_gradient: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.empty_like(rows),
        torch.empty_like(offset),
        rows.new_empty(0) if mask is None else torch.empty_like(mask),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    rows, offset, mask, ctx.height, ctx.width = inputs
    ctx.masked = mask is not None
    ctx.save_for_backward(rows, offset, *([mask] if ctx.masked else []))


def _backward(ctx: Any, columns_gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    rows, offset, *mask = ctx.saved_tensors
    rows_gradient, offset_gradient, mask_gradient = sampled_columns_gradients(
        rows, offset, mask[0] if ctx.masked else None, ctx.height, ctx.width, columns_gradient
    )
    return rows_gradient, offset_gradient, mask_gradient if ctx.masked else None, None, None


sampled_columns.register_autograd(_backward, setup_context=_keep)


@torch.library.custom_op("nnunet_fganet::deform_conv2d_rows", mutates_args=())
def deform_conv2d_rows(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """Deformable convolution for inference, block by block of :data:`BLOCK` pixels or less.

    ``weight``: ``(out_channels, taps * channels)``, contiguous, or as oneDNN's products have it
    (``torch.ops.mkldnn._reorder_linear_weight``), or as :func:`.sample_products.multiply_samples` has it, in bfloat16
    and then with a bias in float32; the rest as for :func:`sampled_columns`.
    Returns ``(batch * height * width, out_channels)``.
    """
    taps, channels = offset.shape[1], rows.shape[1]
    if weight.ndim > 2:
        out = rows.new_empty(len(rows), len(bias))
        ones = torch.ones_like(bias)
        multiply_samples(rows, offset, mask, (height, width), (0, len(rows)), 1.0, 0, weight, ones, bias, out)
        return out
    columns = rows.new_empty(min(BLOCK, len(rows)), taps, channels)
    out = rows.new_empty(len(rows), len(bias))
    for first in range(0, len(rows), BLOCK):
        block = columns[: len(rows) - first]
        sample_columns(rows, offset, mask, (height, width), first, block)
        given, wanted = block.view(len(block), -1), out[first : first + BLOCK]
        if weight.is_mkldnn:
            wanted.copy_(torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], ""))
        else:
            torch.addmm(bias, given, weight.t(), out=wanted)
    return out


@deform_conv2d_rows.register_fake
def _(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    return rows.new_empty(rows.shape[0], bias.shape[0])


@torch.library.custom_op("nnunet_fganet::deform_conv2d_level_rows", mutates_args=())
def deform_conv2d_level_rows(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    weight: torch.Tensor,
    unit: torch.Tensor,
    total: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.levels.deform_conv2d_levels`; inference only."""
    return deform_conv2d_levels(rows, offset, mask, height, width, weight, unit, total, bias)


@deform_conv2d_level_rows.register_fake
def _(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    height: int,
    width: int,
    weight: torch.Tensor,
    unit: torch.Tensor,
    total: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    return rows.new_empty(rows.shape[0], bias.shape[0])


@torch.library.custom_op("nnunet_fganet::winograd_conv2d_rows", mutates_args=())
def winograd_conv2d_rows(
    rows: torch.Tensor, height: int, width: int, weight: torch.Tensor, bias: torch.Tensor, slope: float
) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.winograd.winograd_conv2d`; without gradients."""
    return winograd_conv2d(rows, height, width, weight, bias, slope)


@winograd_conv2d_rows.register_fake
def _(
    rows: torch.Tensor, height: int, width: int, weight: torch.Tensor, bias: torch.Tensor, slope: float
) -> torch.Tensor:
    return rows.new_empty(rows.shape[0], bias.shape[0])


@torch.library.custom_op("nnunet_fganet::gate_and_add_rows", mutates_args=("fine",))
def gate_and_add_rows(fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> None:
    """See :func:`nnunet_fganet.compiled.bilateral.gate_and_add`; inference only."""
    gate_and_add(fine, gate, coarse)


@gate_and_add_rows.register_fake
def _(fine: torch.Tensor, gate: torch.Tensor, coarse: torch.Tensor) -> None:
    return None


@torch.library.custom_op("nnunet_fganet::joined_rows", mutates_args=())
def joined_rows(fused: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.bilateral.join`; inference only."""
    return join(fused, deep)


@joined_rows.register_fake
def _(fused: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
    return fused.new_empty(*fused.shape[:3], fused.shape[3] + deep.shape[3])


@torch.library.custom_op("nnunet_fganet::shift_norm_gelu_rows", mutates_args=())
def shift_norm_gelu_rows(rows: torch.Tensor, steps: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.attention.shift_norm_gelu`; inference only."""
    return attention.shift_norm_gelu(rows, steps, dtype=dtype)


@shift_norm_gelu_rows.register_fake
def _(rows: torch.Tensor, steps: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_like(rows, dtype=dtype)


@torch.library.custom_op("nnunet_fganet::gate_rows", mutates_args=())
def gate_rows(rows: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.gate.gate`; inference only."""
    return gate(rows, given)


@gate_rows.register_fake
def _(rows: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(rows)


@torch.library.custom_op("nnunet_fganet::fixed_point_conv2d_rows", mutates_args=())
def fixed_point_conv2d_rows(
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    stride: int,
    slope: float,
    dtype: torch.dtype,
    others: list[torch.Tensor],
) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.fixed_point.fixed_point_conv2d`; inference only."""
    return fixed_point_conv2d(rows, weight, scale, bias, stride, slope, dtype, others)


@fixed_point_conv2d_rows.register_fake
def _(
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    stride: int,
    slope: float,
    dtype: torch.dtype,
    others: list[torch.Tensor],
) -> torch.Tensor:
    batch, height, width = rows.shape[:3]
    return rows.new_empty(batch, -(-height // stride), -(-width // stride), bias.shape[0], dtype=dtype)


@torch.library.custom_op("nnunet_fganet::bfloat16_conv2d_rows", mutates_args=())
def bfloat16_conv2d_rows(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kernel: int, stride: int, slope: float
) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.bfloat16_conv.bfloat16_conv2d`; inference only."""
    return bfloat16_conv2d(rows, weight, bias, kernel, stride, slope)


@bfloat16_conv2d_rows.register_fake
def _(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kernel: int, stride: int, slope: float
) -> torch.Tensor:
    batch, height, width = rows.shape[:3]
    size = -(-height // stride), -(-width // stride)
    return rows.new_empty(batch, *size, bias.shape[0], dtype=torch.bfloat16)


@torch.library.custom_op("nnunet_fganet::depthwise_conv2d_rows", mutates_args=())
def depthwise_conv2d_rows(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.depthwise.depthwise_conv2d`; inference only."""
    return depthwise_conv2d(rows, weight, bias)


@depthwise_conv2d_rows.register_fake
def _(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(rows)


@torch.library.custom_op("nnunet_fganet::gate_by_sigmoid_rows", mutates_args=("values",))
def gate_by_sigmoid_rows(values: torch.Tensor, gate: torch.Tensor) -> None:
    """See :func:`nnunet_fganet.compiled.pointwise.gate_by_sigmoid`; inference only."""
    gate_by_sigmoid(values, gate)


@gate_by_sigmoid_rows.register_fake
def _(values: torch.Tensor, gate: torch.Tensor) -> None:
    return None


@torch.library.custom_op("nnunet_fganet::max_pool2_rows", mutates_args=())
def max_pool2_rows(rows: torch.Tensor) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.pointwise.max_pool2`; inference only."""
    return max_pool2(rows)


@max_pool2_rows.register_fake
def _(rows: torch.Tensor) -> torch.Tensor:
    batch, height, width, channels = rows.shape
    return rows.new_empty(batch, height // 2, width // 2, channels)


@torch.library.custom_op("nnunet_fganet::conv2d_from_few_rows", mutates_args=())
def conv2d_from_few_rows(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, slope: float, dtype: torch.dtype
) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.few_channels.conv2d_from_few`; inference only."""
    return conv2d_from_few(rows, weight, bias, slope, dtype)


@conv2d_from_few_rows.register_fake
def _(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, slope: float, dtype: torch.dtype) -> torch.Tensor:
    return rows.new_empty(*rows.shape[:3], bias.shape[0], dtype=dtype)


@torch.library.custom_op("nnunet_fganet::product_to_few_rows", mutates_args=())
def product_to_few_rows(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See :func:`nnunet_fganet.compiled.few_channels.product_to_few`; inference only."""
    return product_to_few(rows, weight, bias)


@product_to_few_rows.register_fake
def _(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return rows.new_empty(*rows.shape[:-1], bias.shape[0], dtype=torch.float32)


@torch.library.custom_op("nnunet_fganet::packed_conv2d", mutates_args=())
def packed_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    padding: list[int],
    stride: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    arguments: list[float],
) -> torch.Tensor:
    """Convolution by oneDNN of bfloat16 with a bias in float32, which ``torch.compile`` would not leave as it is."""
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, activation, arguments, ""
    )


@packed_conv2d.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    padding: list[int],
    stride: list[int],
    dilation: list[int],
    groups: int,
    activation: str,
    arguments: list[float],
) -> torch.Tensor:
    size = [
        (length + 2 * edge - step * (kernel - 1) - 1) // pace + 1
        for length, edge, step, kernel, pace in zip(
            x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    out = x.new_empty(x.shape[0], weight.shape[0], *size)
    return out.to(memory_format=torch.channels_last)
