"""Soft skeleton (Shit et al., CVPR 2021), differentiable."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional

from nnunet_fganet.gpu.availability import runs_kernels


def soft_skeleton(x: torch.Tensor, iterations: int) -> torch.Tensor:
    """Soft skeleton: what repeated soft erosion and opening leave of thin structures.

    Parameters
    ----------
    x
        Probabilities or a binary mask in [0, 1], ``(batch, channels, height, width)``.
    iterations
        Erosions after the first opening; more than the largest radius of a wire, in pixels, change nothing.

    Returns
    -------
    torch.Tensor
        Values in [0, 1], of the shape of ``x``.
    """
    compiled = x.device.type == "cpu" or runs_kernels(x.device, x.dtype)
    if compiled and x.dtype == torch.float32 and type(x) is torch.Tensor:
        return _CompiledSkeleton.apply(x, iterations)
    return pooled_skeleton(x, iterations)


def skeletons_together(maps: Sequence[torch.Tensor], iterations: int) -> list[torch.Tensor]:
    """:func:`soft_skeleton` of several maps of one shape, as one batch.

    On a GPU the many short kernels of a skeleton take longer to launch than to run.
    """
    return list(soft_skeleton(torch.cat(list(maps)), iterations).chunk(len(maps)))


def pooled_skeleton(x: torch.Tensor, iterations: int) -> torch.Tensor:
    """:func:`soft_skeleton` from torch's pooling: for every device and dtype, and the definition."""
    eroded = _erode(x)
    skeleton = functional.relu(x - _dilate(eroded))
    for _ in range(iterations):
        x, eroded = eroded, _erode(eroded)
        residue = functional.relu(x - _dilate(eroded))
        skeleton = skeleton + functional.relu(residue - skeleton * residue)
    return skeleton


class _CompiledSkeleton(torch.autograd.Function):
    """:func:`soft_skeleton` in compiled loops or a GPU's kernels; keeps nothing but its input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, iterations: int) -> torch.Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.iterations = iterations
        return _loops(x).skeletonize(x, iterations)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        overwritten = gradient.clone(memory_format=torch.contiguous_format)
        return _loops(x).skeleton_gradient(x, ctx.iterations, overwritten), None


def _loops(x: torch.Tensor) -> ModuleType:
    """What computes where ``x`` is; imported when it is needed, for Numba and Triton take a while."""
    package = "compiled" if x.device.type == "cpu" else "gpu"
    return import_module(f"nnunet_fganet.{package}.skeleton")


def _erode(x: torch.Tensor) -> torch.Tensor:
    """Minimum of the two one-dimensional minimum filters over three pixels."""
    negative = -x
    rows = functional.max_pool2d(negative, (3, 1), stride=1, padding=(1, 0))
    columns = functional.max_pool2d(negative, (1, 3), stride=1, padding=(0, 1))
    return -torch.maximum(rows, columns)


def _dilate(x: torch.Tensor) -> torch.Tensor:
    """Maximum filter over 3 x 3 pixels."""
    return functional.max_pool2d(x, 3, stride=1, padding=1)
