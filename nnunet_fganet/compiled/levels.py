"""Deformable convolutions for inference by products of 8-bit integers: samples in 255 levels, weights in as many.

What they round is a hundredth of the result, which is no more than how strongly each feature is weighed, and halves the
time of the products, where the processor multiplies 8-bit integers (docs/performance.md).
"""

import torch

from nnunet_fganet.compiled.matrix_units import cpu_capabilities, has_matrix_units, tiles_of
from nnunet_fganet.compiled.sample_products import multiplies_samples, multiply_samples
from nnunet_fganet.compiled.sampling import BLOCK, sample_levels

_STEPS = 254  # between the smallest and the largest number of an image: rounding the level of 0 takes one more
_LARGEST = 127  # of a weight
_SMALLEST_UNIT = 1e-30


def multiplies_levels() -> bool:
    """Whether torch has oneDNN's products of 8-bit integers, and this CPU says that it has units for them."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return False
    return has_matrix_units() or bool(cpu_capabilities().get("avx512_vnni", False))


def level_weight(matrix: torch.Tensor, channels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Round the matrix of a deformable convolution.

    Parameters
    ----------
    matrix
        ``(out_channels, taps * channels)``, float32.
    channels
        Of the images.

    Returns
    -------
    weight, unit, total
        Integers as :func:`.sample_products.multiply_samples` has them, or oneDNN's products where there are no matrix
        units or the channels are no multiple of 64; what 1 stands for, and the sum of the integers, of each output
        channel, float32.
    """
    unit = matrix.abs().amax(1).clamp(min=_SMALLEST_UNIT) / _LARGEST
    integers = (matrix / unit[:, None]).round()
    given = integers.to(torch.int8).contiguous()
    if multiplies_samples(channels, size_of_number=1):
        return tiles_of(given), unit, integers.sum(1)
    return torch.ops.onednn.qlinear_prepack(given, [BLOCK, matrix.shape[1]]), unit, integers.sum(1)


def deform_conv2d_levels(
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
    """Deformable convolution, image by image.

    Parameters
    ----------
    rows, offset, mask
        See :func:`.sampling.sample_columns`; factors are between 0 and 1. The levels reach from the smallest number of
        an image to the largest one.
    height, width
        Of the images.
    weight, unit, total
        Of :func:`level_weight`.
    bias
        ``(out_channels,)``, float32.

    Returns
    -------
    torch.Tensor
        ``(batch * height * width, out_channels)``, like ``rows``. An offset or factor that is NaN makes NaN of its
        pixel, a number of an image that is not finite makes NaN of the image.
    """
    out = rows.new_empty(len(rows), len(bias))
    for start in range(0, len(rows), height * width):
        stop = start + height * width
        step, zero = _levels_of(rows[start:stop])
        if zero is None:
            out[start:stop] = torch.nan
            continue
        # What the level of 0 adds to all sums of a channel is taken off with the bias.
        shifted = bias - step * zero * unit * total
        places = rows, offset, mask, (height, width), (start, stop)
        multiply = _multiply_blocks if weight.is_mkldnn else multiply_samples
        multiply(*places, step, zero, weight, unit * step, shifted, out)
    for given in (offset, mask):
        if given is not None and given.sum().isnan():  # a sum takes no time; infinities may make it NaN, too
            out.masked_fill_(given.isnan().flatten(1).any(1)[:, None], torch.nan)
    return out


def _multiply_blocks(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    pixels: tuple[int, int],
    step: float,
    zero: int,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """The same as :func:`.sample_products.multiply_samples` by oneDNN, block by block of :data:`BLOCK` pixels."""
    first, last = pixels
    columns = rows.new_empty(min(BLOCK, last - first), offset.shape[1], rows.shape[1], dtype=torch.uint8)
    zeros = torch.zeros(len(bias), dtype=torch.int32)
    for start in range(first, last, BLOCK):
        block = columns[: last - start]
        sample_levels(rows, offset, mask, size, start, step, zero, block)
        factors = (block.view(len(block), -1), 1.0, 0, weight, scale, zeros, bias, 1.0, 0, rows.dtype)
        out[start : start + len(block)] = torch.ops.onednn.qlinear_pointwise(*factors, "none", [], "")


def _levels_of(rows: torch.Tensor) -> tuple[float, int | None]:
    """Step between two levels, and the level of 0; none where a number is not finite."""
    low, high = (float(each) for each in rows.aminmax())
    low, high = min(low, 0.0), max(high, 0.0)
    if not (low > -torch.inf and high < torch.inf):
        return 1.0, None
    step = max((high - low) / _STEPS, _SMALLEST_UNIT)
    return step, -int(low / step // 1)
