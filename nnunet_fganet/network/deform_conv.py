"""Deformable convolution (Dai et al. 2017; modulated: Zhu et al. 2019) behind one function.

The backends of :data:`BACKENDS` compute the same thing from weights of the same layout, so that a
checkpoint does not depend on them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torchvision import ops  # here: the exporter to ONNX looks for its operators before it records a network

from nnunet_fganet.gpu.availability import runs_kernels
from nnunet_fganet.network.deform_gather import (
    deform_conv2d_float32_forward,
    deform_conv2d_gather,
    deform_conv2d_sampled,
)

AUTO = "auto"
_Compute = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True)
class Backend:
    """One way to compute; ``supports`` takes device type and dtype, :attr:`compute` tensors of that dtype."""

    compute: _Compute
    supports: Callable[[str, torch.dtype], bool]


def _torchvision(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    # In half precision the CPU kernel does not exist, and the GPU's places samples in it: in steps of
    # a quarter of a pixel at column 300.
    compute = torch.promote_types(x.dtype, torch.float32)
    tensors = [each if each is None else each.to(compute) for each in (x, offset, weight, bias, mask)]
    x_, offset_, weight_, bias_, mask_ = tensors
    padding = int(weight.shape[-1]) // 2  # a number even where a graph is recorded
    return ops.deform_conv2d(x_, offset_, weight_, bias_, padding=padding, mask=mask_).to(x.dtype)


def _triton_supports(device: str, dtype: torch.dtype) -> bool:
    return runs_kernels(torch.device(device), dtype)


BACKENDS = {
    # The reference. Its CPU kernel samples in one thread.
    "torchvision": Backend(_torchvision, lambda device, dtype: dtype.is_floating_point),
    "gather": Backend(deform_conv2d_gather, lambda device, dtype: dtype.is_floating_point),
    # The same on GPUs, by Triton kernels.
    "triton": Backend(deform_conv2d_sampled, _triton_supports),
}


def deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    backend: str = AUTO,
) -> torch.Tensor:
    """Convolve with stride 1 and "same" padding at sampling points that ``offset`` moves.

    Parameters
    ----------
    x
        ``(batch, channels, height, width)``.
    offset
        ``(batch, 2 * k * k, height, width)``, in pixels: (row, column) of each of the k x k points.
        Points outside the image read zeros; NaN gives NaN.
    weight
        ``(out_channels, channels, k, k)``, k odd.
    bias
        ``(out_channels,)``.
    mask
        ``(batch, k * k, height, width)``: factor of each sampling point (modulation).
    backend
        A key of :data:`BACKENDS`, or ``auto``: ``gather`` on the CPU, ``triton`` on a GPU where it runs,
        ``torchvision`` elsewhere, and for export (ONNX has an operator for it).

    Returns
    -------
    torch.Tensor
        ``(batch, out_channels, height, width)``, of the dtype of ``x`` (under autocast: of autocast).

    Raises
    ------
    ValueError
        ``backend`` is not known, or does not support the device or dtype of ``x``; ``offset`` or ``mask``
        does not fit ``x`` and ``weight``.
    """
    _check_shapes(x, offset, weight, mask)
    device = x.device.type
    if _has_autocast(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return deform_conv2d(x.to(dtype), offset, weight, bias, mask, backend)
    chosen = choose_backend(backend, device, x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    return BACKENDS[chosen].compute(x, offset, weight.to(x.dtype), bias, mask)


@torch.compiler.assume_constant_result  # torch 2.11 cannot look into it: the graph broke at every SDA
def _has_autocast(device: str) -> bool:
    """Whether ``device`` knows autocast (``meta`` does not)."""
    return torch.amp.is_autocast_available(device)


def _check_shapes(x: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, mask: torch.Tensor | None) -> None:
    """Compiled loops and kernels read where these shapes say."""
    batch, _, height, width = x.shape
    taps = weight.shape[-1] ** 2
    if offset.shape != (batch, 2 * taps, height, width):
        raise ValueError(
            f"offset has the shape {tuple(offset.shape)}; x and weight want {(batch, 2 * taps, height, width)}"
        )
    if mask is not None and mask.shape != (batch, taps, height, width):
        raise ValueError(f"mask has the shape {tuple(mask.shape)}; x and weight want {(batch, taps, height, width)}")


def choose_backend(backend: str, device: str, dtype: torch.dtype) -> str:
    """Key of :data:`BACKENDS` to compute with.

    Raises
    ------
    ValueError
        ``backend`` is not known, or does not support device type or dtype.
    """
    if backend == AUTO:
        if _is_exporting():
            return "torchvision"
        if device == "cpu":
            return "gather"
        return "triton" if _triton_supports(device, dtype) else "torchvision"
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not known; choose one of {', '.join((AUTO, *BACKENDS))}")
    if not BACKENDS[backend].supports(device, dtype):
        able = [name for name, other in BACKENDS.items() if other.supports(device, dtype)]
        raise ValueError(
            f"backend {backend!r} does not support {str(dtype).removeprefix('torch.')} on {device}; "
            f"those that do: {', '.join(able)}"
        )
    return backend


@torch.compiler.assume_constant_result  # torch 2.11 takes it for true wherever it compiles
def _is_exporting() -> bool:
    return torch.compiler.is_exporting()


class DeformConv2d(nn.Module):
    """Deformable k x k convolution; parameters as in ``torchvision.ops.DeformConv2d``.

    Attributes
    ----------
    by_integers
        A training on a CPU in bfloat16 may round the forward pass to 16-bit integers, a prepared network in bfloat16
        to 8-bit ones (:class:`nnunet_fganet.inference.deform.PackedDeformConv2d`); not without being told so.
    """

    by_integers = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, backend: str = AUTO) -> None:
        super().__init__()
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as ``torch.nn.Conv2d`` does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """See :func:`deform_conv2d`; a training on a CPU in bfloat16 computes the forward pass (nearly) in float32."""
        if not self._is_exact_forward(x):
            return deform_conv2d(x, offset, self.weight, self.bias, mask, self.backend)
        _check_shapes(x, offset, self.weight, mask)
        with torch.autocast("cpu", enabled=False):
            return deform_conv2d_float32_forward(x, offset, self.weight, self.bias, mask, self.by_integers)

    def _is_exact_forward(self, x: torch.Tensor) -> bool:
        """Whether this is a training on a CPU in bfloat16 by the loops, outside of ``torch.compile``."""
        in_bfloat16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        trains = self.training and x.device.type == "cpu" and self.weight.dtype == torch.float32
        plain = type(x) is torch.Tensor and type(self.weight) in (nn.Parameter, torch.Tensor)
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
        return trains and in_bfloat16 and plain and not recorded and self.backend in (AUTO, "gather")
