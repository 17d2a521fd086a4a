"""Convolutions made ready once: normalisation folded in, weights laid out, activation in the same pass."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nnunet_fganet.compiled.bfloat16_conv import bfloat16_weight
from nnunet_fganet.compiled.few_channels import MOST_IN, MOST_OUT
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.half import LARGEST_FLOAT16
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.operators import (
    bfloat16_conv2d_rows,
    conv2d_from_few_rows,
    depthwise_conv2d_rows,
    fixed_point_conv2d_rows,
    packed_conv2d,
    product_to_few_rows,
)
from nnunet_fganet.compiled.tiles import count_tiles
from nnunet_fganet.compiled.winograd import transformed_weight
from nnunet_fganet.gpu.availability import runs_kernels
from nnunet_fganet.network.conv import convolve_by_winograd, suits_winograd
from nnunet_fganet.network.layout import image, image_rows

# Activation -> its name and arguments in oneDNN.
_ONEDNN_ACTIVATIONS: dict[str, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "leaky_relu": ("leaky_relu", [0.01]),
}
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu_,
    "leaky_relu": partial(functional.leaky_relu_, negative_slope=0.01),
}
SLOPES = {"none": 1.0, "relu": 0.0, "leaky_relu": 0.01}

# On images of fewer tiles, reading the weights of Winograd's convolution, of which there are four times as many, costs
# more than it saves (benchmarks/convolutions.py).
WINOGRAD_TILES = 16
# With fewer in, oneDNN's convolutions in bfloat16 are as fast as ours, or faster (benchmarks/convolutions.py wide).
_FEWEST_BFLOAT16_CHANNELS = 256
# With more, a depthwise and a 1 x 1 convolution by integers are faster than the one of full depth that they make.
_MERGED_CHANNELS = 64


class PackedConv2d(nn.Module):
    """A convolution with its activation, for inference only.

    On the CPU the weight lies in the layout that oneDNN computes with, so that no call lays it out
    again, and the activation is applied while the result is in the registers. Elsewhere a plain
    channels-last convolution.

    Parameters
    ----------
    conv
        The convolution, with "same" padding; its weights are copied.
    activation
        ``none``, ``relu`` or ``leaky_relu`` (slope 0.01).
    dtype
        Of weights, input and output.
    """

    def __init__(self, conv: nn.Conv2d, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.activation = activation
        kernel_rows, kernel_columns = conv.kernel_size
        self.padding = [kernel_rows // 2, kernel_columns // 2]
        self.stride, self.dilation = list(conv.stride), list(conv.dilation)
        self.groups = conv.groups
        weight = conv.weight.detach().to(dtype)
        # oneDNN packs 1 x 1 weights for large images; small ones then take up to 17 times as long.
        packable = conv.kernel_size != (1, 1)
        self.packed = packable and weight.device.type == "cpu" and _onednn_computes(dtype)
        # Rounding the bias, which most of BatchNorm goes into, would shift whole channels.
        bias_dtype = torch.float32 if self.packed else dtype
        self.bias = None if conv.bias is None else conv.bias.detach().to(bias_dtype)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, self.padding, self.stride, self.dilation, self.groups
            )
        else:
            self.weight = weight.contiguous(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to the convolution's output, activated."""
        if self.packed:
            name, arguments = _ONEDNN_ACTIVATIONS[self.activation]
            given = (x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups, name, arguments)
            # torch.compile would convert what is not of the bias's dtype.
            mixed = self.bias is not None and self.bias.dtype != x.dtype and torch.compiler.is_compiling()
            return packed_conv2d(*given) if mixed else torch.ops.mkldnn._convolution_pointwise(*given, "")
        out = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return _ACTIVATIONS[self.activation](out)


def _onednn_computes(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and computes in ``dtype`` on this processor (bfloat16: not on each)."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def pack_matrix(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """Lay out a matrix ``(out, in)`` on the CPU for oneDNN's products with blocks of ``rows`` rows, where it has them.

    Otherwise it is only made contiguous. Products with it take an eighth less time than with a plain matrix in
    float32, and a twentieth less in bfloat16.
    """
    if not _onednn_computes(weight.dtype):
        return weight.contiguous()
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)


class WinogradConv2d(nn.Module):
    """A 3 x 3 convolution with its activation in float32 on a CPU, for inference only: up to three times as fast.

    Small images go through a plain one.

    Parameters
    ----------
    conv
        See :func:`suits_winograd`; its weights are copied, and take five times the memory (eight for 18 channels out).
    activation
        See :class:`PackedConv2d`.
    """

    def __init__(self, conv: nn.Conv2d, activation: str) -> None:
        super().__init__()
        self.plain = PackedConv2d(conv, activation, torch.float32)
        self.slope = SLOPES[activation]
        self.weight = transformed_weight(conv.weight.detach())
        self.bias = self.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to the convolution's output, activated."""
        batch, _, height, width = x.shape
        if batch * count_tiles(height, width) < WINOGRAD_TILES:
            return self.plain(x)
        return convolve_by_winograd(x, self.weight, self.bias, self.slope)


class FixedPointConv2d(nn.Module):
    """A convolution with its activation by matrix units for 8-bit integers, for inference only.

    Parameters
    ----------
    conv
        See :func:`_pack_in_float16`; its weights are copied.
    activation
        See :class:`PackedConv2d`.
    dtype
        Of the output: float32 or float16.
    """

    def __init__(self, conv: nn.Conv2d, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.slope, self.stride, self.dtype = SLOPES[activation], conv.stride[0], dtype
        self.weight, self.scale = fixed_point_weight(conv.weight.detach())
        self.bias = _bias_in_float32(conv)

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to the convolution's output, activated.

        With ``others`` the image is what they make with ``x``, see
        :func:`nnunet_fganet.compiled.fixed_point.fixed_point_conv2d`. A frame of several channels is taken in float32
        as it is; all else is rounded to float16, if it is not in it.
        """
        is_frame = x.dtype == torch.float32 and not others
        rows, *others_rows = (image_rows(x if is_frame else _in_float16(each)) for each in (x, *others))
        given = (rows, self.weight, self.scale, self.bias, self.stride, self.slope, self.dtype)
        return image(fixed_point_conv2d_rows(*given, others_rows))


def _in_float16(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float16 else x.clamp(-LARGEST_FLOAT16, LARGEST_FLOAT16).half()


class Bfloat16Conv2d(nn.Module):
    """A convolution of many channels with its activation in bfloat16 by matrix units, for inference only.

    Parameters
    ----------
    conv
        Square and odd, with "same" padding, one stride and no dilation; its weights are copied.
    activation
        See :class:`PackedConv2d`.
    """

    def __init__(self, conv: nn.Conv2d, activation: str) -> None:
        super().__init__()
        self.slope, self.stride, self.kernel = SLOPES[activation], conv.stride[0], conv.kernel_size[0]
        self.weight, self.bias = bfloat16_weight(conv.weight.detach()), _bias_in_float32(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)``, bfloat16 or float16, to the output in bfloat16, activated."""
        given = (self.weight, self.bias, self.kernel, self.stride, self.slope)
        return image(bfloat16_conv2d_rows(image_rows(x), *given))


class DepthwiseConv2d(nn.Module):
    """A depthwise convolution on a CPU whose sums are float32, for inference only.

    Parameters
    ----------
    conv
        See :func:`_pack_in_float16`; its weights are copied.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight.detach().float()[:, 0].permute(1, 2, 0).contiguous()
        self.bias = _bias_in_float32(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, height, width)`` to the same shape."""
        return image(depthwise_conv2d_rows(image_rows(x), self.weight, self.bias))


class FewChannelsConv2d(nn.Module):
    """A convolution of float32 images of a few channels on a CPU, or a 1 x 1 convolution to them, for inference only.

    Parameters
    ----------
    conv
        With a stride of 1 and few channels in, or a 1 x 1 convolution with few channels out; its weights are copied.
    activation
        See :class:`PackedConv2d`; of a 1 x 1 convolution none.
    dtype
        Of the output.
    """

    def __init__(self, conv: nn.Conv2d, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.slope, self.dtype, self.is_product = SLOPES[activation], dtype, conv.kernel_size == (1, 1)
        weight = conv.weight.detach().float()
        self.weight = weight.flatten(1) if self.is_product else weight.permute(2, 3, 1, 0).contiguous()
        self.bias = _bias_in_float32(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to the convolution's output, activated."""
        if self.is_product:
            return image(product_to_few_rows(image_rows(x), self.weight, self.bias)).to(self.dtype)
        return image(conv2d_from_few_rows(image_rows(x.float()), self.weight, self.bias, self.slope, self.dtype))


def _bias_in_float32(conv: nn.Conv2d) -> torch.Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().float()


def _pack_in_float16(conv: nn.Conv2d, activation: str) -> nn.Module:
    """Make a convolution of float16 images on a CPU ready: its sums are exact to 2 ** -15 or better."""
    size, stride = conv.kernel_size[0], conv.stride[0]
    if not _is_plain(conv):
        raise ValueError(f"no loop computes {conv} in float16")
    if conv.groups == 1:
        makes_few = size == 1 and activation == "none" and conv.out_channels <= MOST_OUT
        few = stride == 1 and (makes_few or (size > 1 and conv.in_channels <= MOST_IN))
        return (FewChannelsConv2d if few else FixedPointConv2d)(conv, activation, torch.float16)
    if conv.groups == conv.in_channels == conv.out_channels and stride == 1 and activation == "none":
        return DepthwiseConv2d(conv)
    raise ValueError(f"no loop computes {conv} in float16")


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether it is one that our loops know: square and odd, with "same" padding, one stride, no dilation."""
    size, stride = conv.kernel_size[0], conv.stride[0]
    same = conv.kernel_size == (size, size) and conv.padding == (size // 2, size // 2) and size % 2 == 1
    return same and conv.stride == (stride, stride) and conv.dilation == (1, 1)


def _by_bfloat16_units(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether our convolution in bfloat16 is faster than oneDNN's."""
    # What is copied for a 1 x 1 kernel is read once only, which is no gain.
    is_wide = conv.groups == 1 and conv.in_channels >= _FEWEST_BFLOAT16_CHANNELS and conv.kernel_size != (1, 1)
    is_wide = is_wide and _is_plain(conv)
    return is_wide and dtype == torch.bfloat16 and conv.weight.device.type == "cpu" and has_matrix_units()


def pack_convolution(conv: nn.Conv2d, activation: str, dtype: torch.dtype) -> nn.Module:
    """Make one convolution ready, in the way that is fastest for it."""
    if runs_kernels(conv.weight.device, dtype):
        from nnunet_fganet.inference.gpu import GpuConv2d  # needs Triton

        return GpuConv2d(conv, activation, dtype)
    if _by_integers(conv, dtype):
        return _pack_in_float16(conv, activation)
    if _by_bfloat16_units(conv, dtype):
        return Bfloat16Conv2d(conv, activation)
    return WinogradConv2d(conv, activation) if suits_winograd(conv, dtype) else PackedConv2d(conv, activation, dtype)


def pack_convolutions(layers: nn.Sequential, dtype: torch.dtype) -> nn.Sequential:
    """Replace each [convolution, BatchNorm, activation] of a sequence in evaluation mode by one packed convolution.

    Other normalisations stay, dropout goes.
    """
    waiting = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    packed = nn.Sequential()
    while waiting:
        layer = waiting.pop(0)
        if isinstance(layer, nn.Conv2d):
            following = waiting[0] if waiting else None
            if isinstance(following, nn.BatchNorm2d):
                layer = fuse_conv_bn_eval(layer, following)
                waiting.pop(0)
            activation = _activation_name(waiting[0]) if waiting else "none"
            if activation != "none":
                waiting.pop(0)
            elif waiting and isinstance(waiting[0], nn.Conv2d) and _is_product(waiting[0]):
                if _is_faster_merged(layer, dtype):
                    waiting[0] = _merged(layer, waiting[0])
                    continue
                layer, waiting[0] = _with_moved_bias(layer, waiting[0])
            layer = pack_convolution(layer, activation, dtype)
        packed.append(layer)
    return packed


def _is_product(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


def _by_integers(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether matrix units for 8-bit integers compute convolutions in this dtype where ``conv`` is."""
    return dtype == torch.float16 and conv.weight.device.type == "cpu" and has_matrix_units()


def _is_faster_merged(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    is_depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    return is_depthwise and conv.in_channels <= _MERGED_CHANNELS and _by_integers(conv, dtype)


def _merged(conv: nn.Conv2d, product: nn.Conv2d) -> nn.Conv2d:
    """One convolution that computes what a depthwise one and the 1 x 1 convolution behind it do."""
    conv, product = _with_moved_bias(conv, product)
    merged = copy.deepcopy(conv)
    merged.groups, merged.out_channels = 1, product.out_channels
    merged.weight = nn.Parameter(product.weight.detach() * conv.weight.detach().transpose(0, 1))
    merged.bias = product.bias
    return merged


def _with_moved_bias(conv: nn.Conv2d, product: nn.Conv2d) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Copies of a convolution and the 1 x 1 convolution behind it, which adds what the first one's bias gave."""
    if conv.bias is None:
        return conv, product
    conv, product = copy.deepcopy(conv), copy.deepcopy(product)
    moved = product.weight.detach()[:, :, 0, 0] @ conv.get_parameter("bias").detach()
    product.bias = nn.Parameter(moved if product.bias is None else product.bias.detach() + moved)
    conv.bias = None
    return conv, product


def _activation_name(layer: nn.Module) -> str:
    if isinstance(layer, nn.ReLU):
        return "relu"
    if isinstance(layer, nn.LeakyReLU) and layer.negative_slope == 0.01:
        return "leaky_relu"
    return "none"
