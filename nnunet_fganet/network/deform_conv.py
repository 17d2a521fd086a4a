"""Deformable convolution (Dai et al. 2017; modulated: Zhu et al. 2019) behind one function.

Two backends compute the same thing from weights of the same layout:

``torchvision``
    ``torchvision.ops.deform_conv2d``, the reference. Its CPU kernel samples in one thread and knows
    no half precision.
``gather``
    A weighted gather of rows: with channels last a pixel is one contiguous row, and bilinear
    sampling is ``embedding_bag`` over four rows. Threaded, and in every floating-point type.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

BACKENDS = ("auto", "torchvision", "gather")


def deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    backend: str = "auto",
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
        One of :data:`BACKENDS`; ``auto`` takes ``gather`` on the CPU and ``torchvision`` elsewhere
        and for export (ONNX has an operator for it).

    Returns
    -------
    torch.Tensor
        ``(batch, out_channels, height, width)``, of the dtype of ``x`` (under autocast: of autocast).

    Raises
    ------
    ValueError
        ``backend`` is not known.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not known; choose one of {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = "gather" if x.device.type == "cpu" and not torch.compiler.is_exporting() else "torchvision"
    compute = _gather if backend == "gather" else _torchvision
    return compute(x, offset, weight, bias, mask)


class DeformConv2d(nn.Module):
    """Deformable k x k convolution; parameters as in ``torchvision.ops.DeformConv2d``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, backend: str = "auto") -> None:
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
        """See :func:`deform_conv2d`."""
        return deform_conv2d(x, offset, self.weight, self.bias, mask, self.backend)


def _torchvision(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    padding = weight.shape[-1] // 2
    if x.device.type != "cpu":
        return torchvision_deform_conv2d(x, offset, weight, bias, padding=padding, mask=mask)
    # The CPU kernel knows neither half precision nor autocast.
    dtype = _compute_dtype(x)
    x, offset, weight = x.float(), offset.float(), weight.float()
    bias = None if bias is None else bias.float()
    mask = None if mask is None else mask.float()
    return torchvision_deform_conv2d(x, offset, weight, bias, padding=padding, mask=mask).to(dtype)


def _gather(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    batch, channels, height, width = x.shape
    dtype = _compute_dtype(x)
    index, share = _corners(offset, weight.shape[-1])
    if mask is not None:
        share = share * mask.permute(0, 2, 3, 1).unsqueeze(-1).float()
    rows = x.to(dtype).permute(0, 2, 3, 1).reshape(-1, channels)
    columns = functional.embedding_bag(
        index.view(-1, 4), rows, mode="sum", per_sample_weights=share.to(dtype).view(-1, 4)
    ).view(batch * height * width, -1)
    matrix = weight.to(dtype).permute(0, 2, 3, 1).reshape(weight.shape[0], -1)
    out = functional.linear(columns, matrix, None if bias is None else bias.to(dtype))
    return out.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _corners(offset: torch.Tensor, kernel_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows to read and their bilinear weights.

    Returns
    -------
    index, share
        ``(batch, height, width, k * k, 4)``: row number of a corner in the flattened
        ``(batch * height * width, channels)`` input, and its weight (0 outside the image).
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
    first_row = (torch.arange(batch, device=offset.device) * height).view(-1, 1, 1, 1)
    top, bottom = (first_row + top) * width, (first_row + bottom) * width
    index = torch.stack((top + left, top + right, bottom + left, bottom + right), dim=-1)
    share = torch.stack(
        (top_share * left_share, top_share * right_share, bottom_share * left_share, bottom_share * right_share), dim=-1
    )
    return index, share


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


def _compute_dtype(x: torch.Tensor) -> torch.dtype:
    """Dtype of the products: autocast's where it is on, else that of ``x``."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
