"""Convolutions whose training on a CPU costs less, or whose rounding is where it does no harm."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.compiled.fixed_point import MOST_PRODUCTS, fixed_point_conv2d
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.lanes import LANES
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.operators import winograd_conv2d_rows
from nnunet_fganet.compiled.sample_weight_gradient import multiplies_gradients, sample_weight_gradient
from nnunet_fganet.compiled.tiles import count_tiles
from nnunet_fganet.compiled.winograd import transformed_weight
from nnunet_fganet.compiled.winograd_gradient import winograd_weight_gradient
from nnunet_fganet.network.deform_gather import channel_rows, weight_matrix
from nnunet_fganet.network.layout import image_rows
from nnunet_fganet.network.rounded import exact, is_rounded, without_exact
from nnunet_fganet.precision import cpu_may_have_matrix_units

# In fewer tiles than these, transforming the weights, anew in each step, costs more than Winograd's convolution saves
# against float32; and against the dot products of bfloat16.
_FEWEST_TILES, _FEWEST_AGAINST_DOT_PRODUCTS = 128, 512
# In up to as many pixels of a batch a product with all that the kernels read is the faster gradient of weights.
_MOST_PIXELS = 512
# With fewer channels making integers of an image costs more than multiplying it by a 1 x 1 kernel.
_FEWEST_CHANNELS_OF_INTEGERS = {1: 128, 3: LANES}


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d``, but for training on a CPU, outside of ``torch.compile``.

    * In float32, large images go through Winograd's convolution, forward and backward.
    * Under an autocast to bfloat16 the forward pass is in float32 all the same or, where that is allowed, by products
      of 16-bit integers, which round a tenth as much; and the backward pass in bfloat16 (where Winograd's convolution
      is not faster). What a forward pass rounds turns the gradients of a trained network, in bfloat16 some
      by 20 degrees; what the backward pass rounds hardly does (docs/performance.md).

    Second gradients, and tensors that are more than their memory (subclasses), are torch's; of images that are handed
    on rounded (:mod:`.rounded`) there are no second gradients.

    Attributes
    ----------
    by_integers
        A training on a CPU in bfloat16 may round the forward pass to 16-bit integers; not without being told so.
    """

    by_integers = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, height, width)`` to ``(batch, out_channels, ...)``."""
        way = self.way(x)
        if way is None:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return _Convolution.apply(x, exact(x), self.weight, self.bias, way)

    def way(self, x: torch.Tensor) -> "Way | None":
        """How a training computes these images; None: as torch does."""
        trains = self.training and x.device.type == "cpu" and self.weight.dtype == torch.float32
        usual = x.dim() == 4 and isinstance(self.padding, tuple) and self.padding_mode == "zeros"
        plain = type(x) is torch.Tensor and type(self.weight) in (nn.Parameter, torch.Tensor)
        if not (trains and usual and plain) or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return None
        tiles = x.shape[0] * count_tiles(*x.shape[2:]) if suits_winograd(self, torch.float32) else 0
        quicker = tiles >= _FEWEST_TILES
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            quicker_back = tiles >= _FEWEST_AGAINST_DOT_PRODUCTS and not cpu_may_have_matrix_units()
            by_integers = self.by_integers and _suits_integers(self)
            return Way(self, by_integers, quicker, quicker_back, dtype) if dtype == torch.bfloat16 else None
        return Way(self, False, quicker, quicker, torch.float32) if x.dtype == torch.float32 else None


def suits_winograd(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether Winograd's convolution computes this one."""
    plain = conv.kernel_size == (3, 3) and conv.stride == conv.dilation == conv.padding == (1, 1) and conv.groups == 1
    wide = min(conv.in_channels, conv.out_channels) >= LANES
    return plain and wide and dtype == torch.float32 and conv.weight.device.type == "cpu"


def _suits_integers(conv: nn.Conv2d) -> bool:
    """Whether this processor's convolutions of 16-bit integers compute this one, in less time than others."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    same = conv.kernel_size == (kernel, kernel) and conv.padding == (kernel // 2, kernel // 2)
    plain = conv.dilation == (1, 1) and conv.stride == (stride, stride) and conv.groups == 1
    if not (same and plain and kernel in _FEWEST_CHANNELS_OF_INTEGERS and has_matrix_units()):
        return False
    wide = min(conv.in_channels, conv.out_channels) >= _FEWEST_CHANNELS_OF_INTEGERS[kernel]
    return wide and kernel**2 * conv.in_channels <= MOST_PRODUCTS


def convolve_by_winograd(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, slope: float = 1.0) -> torch.Tensor:
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


@dataclass(frozen=True)
class Way:
    """A convolution in float32 whose gradients are computed in a dtype of their own.

    Attributes
    ----------
    conv
        What it is a convolution of; its weights are not read from it.
    forward_by_integers
        Whether products of 16-bit integers compute its output.
    forward_by_winograd, backward_by_winograd
        Whether Winograd's convolution does otherwise, in float32 always.
    gradient_dtype
        Of the gradients otherwise.
    """

    conv: nn.Conv2d
    forward_by_integers: bool
    forward_by_winograd: bool
    backward_by_winograd: bool
    gradient_dtype: torch.dtype

    @property
    def dtype_of_gradients(self) -> torch.dtype:
        """What :meth:`gradients` computes in."""
        return torch.float32 if self.backward_by_winograd else self.gradient_dtype

    def rounded_weight(self, weight: torch.Tensor) -> torch.Tensor | None:
        """Memory for the weights that :meth:`gradients` takes, where :meth:`output` writes them on its way."""
        if not self.forward_by_integers or self.dtype_of_gradients != torch.bfloat16:
            return None
        return torch.empty_like(weight, dtype=torch.bfloat16, memory_format=torch.channels_last)

    def output(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rounded_weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``(batch, out_channels, height, width)``, float32; ``rounded_weight``: of :meth:`rounded_weight`."""
        # Our loops' results are detached, for autograd forbids to write into a view that one of its functions returns.
        if self.forward_by_integers:
            return self._output_by_integers(x, weight, bias, rounded_weight).detach()
        if self.forward_by_winograd:
            bias = weight.new_zeros(len(weight)) if bias is None else bias
            return convolve_by_winograd(x, transformed_weight(weight), bias).detach()
        conv = self.conv
        return functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def _output_by_integers(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rounded: torch.Tensor | None
    ) -> torch.Tensor:
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        tiles = fixed_point_weight(weight, None if rounded is None else weight_matrix(rounded))
        given = image_rows(x), *tiles, bias, self.conv.stride[0], 1.0, torch.float32
        return fixed_point_conv2d(*given).permute(0, 3, 1, 2)

    def gradients(
        self, gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, wanted: tuple[bool, bool]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Of the image, in :attr:`dtype_of_gradients`, and of the weight, float32; None where they are not wanted.

        What is given may be in that dtype, too.
        """
        has_second_gradients = torch.is_grad_enabled()
        gradient, x, weight = (each.to(self.dtype_of_gradients) for each in (gradient, x, weight))
        if self.backward_by_winograd and not has_second_gradients:
            return (
                _image_gradient(gradient, weight) if wanted[0] else None,
                winograd_weight_gradient(channel_rows(x), channel_rows(gradient), *x.shape[2:]) if wanted[1] else None,
            )
        by_product = wanted[1] and not has_second_gradients and self._has_few_pixels(gradient)
        found = torch.ops.aten.convolution_backward(
            *(gradient, x, weight, None),
            *(self.conv.stride, self.conv.padding, self.conv.dilation),
            *(False, [0, 0], self.conv.groups),
            [wanted[0], wanted[1] and not by_product, False],
        )
        of_weight = _weight_gradient_of_few_pixels(gradient, x, self.conv) if by_product else found[1]
        return found[0] if wanted[0] else None, of_weight.float() if wanted[1] else None

    def _has_few_pixels(self, gradient: torch.Tensor) -> bool:
        """Whether oneDNN's gradient of the weights takes longer than one product, with matrix units."""
        conv = self.conv
        plain = conv.kernel_size == (3, 3) and conv.dilation == (1, 1) and conv.groups == 1
        pixels = len(gradient) * gradient.shape[2] * gradient.shape[3]
        return plain and gradient.dtype == torch.bfloat16 and pixels <= _MOST_PIXELS and cpu_may_have_matrix_units()


def _weight_gradient_of_few_pixels(gradient: torch.Tensor, x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """Gradient of the weights, ``(out_channels, channels, 3, 3)``, as that of a deformable convolution that is none."""
    if conv.stride != (1, 1) or conv.padding != (1, 1) or not multiplies_gradients(x.shape[1], gradient.shape[1]):
        return _weight_gradient_by_product(gradient, x, conv)
    rows, taps = channel_rows(x), conv.kernel_size[0] ** 2
    still = rows.new_zeros(len(rows), taps, 2, dtype=torch.float32)
    found = sample_weight_gradient(rows, still, None, (x.shape[2], x.shape[3]), channel_rows(gradient))
    return found.view(len(found), *conv.kernel_size, -1).permute(0, 3, 1, 2)


def _weight_gradient_by_product(gradient: torch.Tensor, x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """Gradient of the weights, ``(out_channels, channels, rows, columns)``, of a convolution without dilation."""
    vertical, horizontal = cast(tuple[int, int], conv.padding)
    padded = image_rows(functional.pad(x, (horizontal, horizontal, vertical, vertical)))
    batch, out_channels, height, width = gradient.shape
    image, row, pixel, channel = padded.stride()
    seen = padded.as_strided(
        (batch, height, width, *conv.kernel_size, x.shape[1]),
        (image, row * conv.stride[0], pixel * conv.stride[1], row, pixel, channel),
    )
    product = channel_rows(gradient).t().contiguous() @ seen.reshape(batch * height * width, -1)
    return product.view(out_channels, *conv.kernel_size, -1).permute(0, 3, 1, 2)


def _image_gradient(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same convolution of the output's gradient, with the weights turned by half a turn."""
    turned = transformed_weight(weight.flip(2, 3).transpose(0, 1))
    return convolve_by_winograd(gradient, turned, weight.new_zeros(weight.shape[1]))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        x: torch.Tensor, numbers: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, way: Way
    ) -> torch.Tensor:
        return way.output(numbers, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        x, numbers, weight, _, ctx.way = inputs
        ctx.dtype, ctx.is_rounded = x.dtype, is_rounded(x)
        ctx.save_for_backward(without_exact(x) if ctx.way.dtype_of_gradients == x.dtype else numbers, weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.is_rounded and torch.is_grad_enabled():
            raise RuntimeError("convolutions of images that a training hands on rounded have no second gradients")
        of_image, _, of_weight, of_bias, _ = ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):  # a caller's may still be on
            image, weight = ctx.way.gradients(gradient, *ctx.saved_tensors, (of_image, of_weight))
            image = None if image is None else image.to(ctx.dtype)
        return image, None, weight, gradient.sum((0, 2, 3)) if of_bias else None, None
