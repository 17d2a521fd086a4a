"""Convolutions whose training on a CPU costs less, or whose rounding is where it does no harm."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_fganet.compiled.lanes import LANES
from nnunet_fganet.compiled.operators import winograd_conv2d_rows
from nnunet_fganet.compiled.tiles import count_tiles
from nnunet_fganet.compiled.winograd import transformed_weight
from nnunet_fganet.compiled.winograd_gradient import winograd_weight_gradient
from nnunet_fganet.network.deform_gather import channel_rows
from nnunet_fganet.precision import image_dtype

# In fewer tiles than these, transforming the weights, anew in each step, costs more than Winograd's convolution saves
# against float32; and against the dot products of bfloat16.
_FEWEST_TILES, _FEWEST_AGAINST_DOT_PRODUCTS = 128, 1024


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d``, but for training on a CPU, outside of ``torch.compile``.

    * In float32, large images go through Winograd's convolution, forward and backward.
    * Under an autocast to bfloat16 the forward pass is in float32 all the same, and the backward pass in bfloat16
      (where Winograd's convolution is not faster). What a forward pass rounds turns the gradients of a trained network,
      some by 20 degrees; what the backward pass rounds hardly does (docs/performance.md).

    Attributes
    ----------
    winograd
        Whether Winograd's convolution may be used.
    """

    winograd = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to ``(batch, out_channels, ...)``."""
        dtypes = self._dtypes(x)
        if dtypes is None:
            return super().forward(x)
        dtype, gradient_dtype = dtypes
        with torch.autocast("cpu", enabled=False):
            return _Convolution.apply(x.to(dtype), self.weight, self.bias, self, gradient_dtype)

    def _dtypes(self, x: torch.Tensor) -> tuple[torch.dtype, torch.dtype] | None:
        """Of the forward and the backward pass; None: as torch has them."""
        trains = self.training and x.device.type == "cpu" and self.weight.dtype == torch.float32
        if not trains or torch.compiler.is_compiling():
            return None
        if not torch.is_autocast_enabled("cpu"):
            is_quicker = x.dtype == torch.float32 and _by_winograd(self, x, x.dtype)
            return (x.dtype, x.dtype) if is_quicker else None
        autocast = torch.get_autocast_dtype("cpu")
        return (torch.float32, autocast) if autocast == torch.bfloat16 else None


def suits_winograd(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether Winograd's convolution computes this one."""
    plain = conv.kernel_size == (3, 3) and conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    wide = min(conv.in_channels, conv.out_channels) >= LANES
    return plain and wide and dtype == torch.float32 and conv.weight.device.type == "cpu"


def winograd(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, slope: float = 1.0) -> torch.Tensor:
    """Convolve images with "same" padding, then LeakyReLU.

    Parameters
    ----------
    x
        ``(batch, in_channels, height, width)``, float32.
    weight
        Of :func:`nnunet_fganet.compiled.winograd.transformed_weight`.
    bias
        ``(out_channels,)``, float32.
    slope
        Of LeakyReLU: 0 is ReLU, 1 leaves the values as they are.

    Returns
    -------
    torch.Tensor
        ``(batch, out_channels, height, width)``, channels last.
    """
    batch, _, height, width = x.shape
    out = winograd_conv2d_rows(channel_rows(x), height, width, weight, bias, slope)
    return out.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _by_winograd(conv: Conv2d, x: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether Winograd's convolution, its weights not transformed yet, is faster for these images than in ``dtype``."""
    if not conv.winograd or not suits_winograd(conv, conv.weight.dtype):
        return False
    batch, _, height, width = x.shape
    tiles = batch * count_tiles(height, width)
    if dtype == torch.float32:
        return tiles >= _FEWEST_TILES
    return tiles >= _FEWEST_AGAINST_DOT_PRODUCTS and image_dtype(dtype, "cpu") == torch.float32


class _Convolution(torch.autograd.Function):
    """A convolution in float32 whose gradients are computed in a dtype of their own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        conv: Conv2d,
        gradient_dtype: torch.dtype,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.conv, ctx.gradient_dtype = conv, gradient_dtype
        if _by_winograd(conv, x, torch.float32):
            return winograd(x, transformed_weight(weight), weight.new_zeros(len(weight)) if bias is None else bias)
        return functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_image, of_weight, of_bias = ctx.needs_input_grad[:3]
        is_quicker = _by_winograd(ctx.conv, ctx.saved_tensors[0], ctx.gradient_dtype)
        compute = _winograd_gradients if is_quicker else _plain_gradients
        with torch.autocast("cpu", enabled=False):  # a caller's may still be on
            x_gradient, weight_gradient = compute(ctx, gradient, of_image, of_weight)
        return x_gradient, weight_gradient, gradient.sum((0, 2, 3)) if of_bias else None, None, None


Gradients = tuple[torch.Tensor | None, torch.Tensor | None]


def _winograd_gradients(ctx: Any, gradient: torch.Tensor, of_image: bool, of_weight: bool) -> Gradients:
    x, weight = ctx.saved_tensors
    x_gradient = weight_gradient = None
    if of_image:  # the same convolution of the gradient, with the weights turned by half a turn
        turned = transformed_weight(weight.flip(2, 3).transpose(0, 1))
        x_gradient = winograd(gradient, turned, weight.new_zeros(weight.shape[1]))
    if of_weight:
        weight_gradient = winograd_weight_gradient(channel_rows(x), channel_rows(gradient), *x.shape[2:])
    return x_gradient, weight_gradient


def _plain_gradients(ctx: Any, gradient: torch.Tensor, of_image: bool, of_weight: bool) -> Gradients:
    conv = ctx.conv
    x_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
        *(each.to(ctx.gradient_dtype) for each in (gradient, *ctx.saved_tensors)),
        None,
        *(conv.stride, conv.padding, conv.dilation),
        *(False, [0, 0], conv.groups),
        [of_image, of_weight, False],
    )
    return x_gradient.float() if of_image else None, weight_gradient.float() if of_weight else None
