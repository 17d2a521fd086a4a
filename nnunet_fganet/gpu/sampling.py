"""Samples of deformable convolutions and their gradients on GPUs, as Triton kernels.

What :mod:`nnunet_fganet.compiled.sampling` is on CPUs: images have channels last, so that a sample is the
weighted sum of four rows, and cuBLAS multiplies the samples with the weights. torchvision's kernel samples in
float32 wherever autocast meets it, and adds the gradients of the image one number at a time. Here positions
and sums are float32, and numbers have the image's format.
"""

import torch
import triton
import triton.language as tl

_PIXELS, _CHANNELS = 16, 128  # of a program of the forward kernel, at most
_PIXELS_BACK, _CHANNELS_BACK = 8, 64  # of one step of a program of the backward kernel, at most


def sample_columns(
    rows: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None, size: tuple[int, int]
) -> torch.Tensor:
    """Samples of all pixels, ``(batch * height * width, taps, channels)``.

    Parameters
    ----------
    rows
        ``(batch * height * width, channels)``, float32, float16 or bfloat16.
    offset
        ``(batch * height * width, taps, 2)``, float32, in px: (row, column) of each sample,
        from where a plain ``k x k`` convolution has it (``taps = k * k``).
    mask
        ``(batch * height * width, taps)``, float32: factors of the samples.
    size
        ``(height, width)``.
    """
    rows, offset, mask = _contiguous(rows, offset, mask)
    (pixels, channels), taps = rows.shape, offset.shape[1]
    columns = rows.new_empty(pixels, taps, channels)
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    grid = (triton.cdiv(pixels, _PIXELS), triton.cdiv(channels, block), taps)
    with torch.cuda.device_of(rows):
        _sample[grid](
            *(rows, offset, offset if mask is None else mask, columns, pixels, *size, channels),
            HAS_MASK=mask is not None,
            TAPS=taps,
            KERNEL_SIZE=_kernel_size(taps),
            PIXELS=_PIXELS,
            CHANNELS=block,
        )
    return columns


def sample_gradients(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    columns_gradient: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Gradients of rows (float32), offset and mask from those of the columns; shapes as in :func:`sample_columns`.

    The order in which a pixel's contributions are added is not fixed, as in torchvision.
    """
    rows, offset, mask = _contiguous(rows, offset, mask)
    columns_gradient = columns_gradient.contiguous()
    (pixels, channels), taps = rows.shape, offset.shape[1]
    rows_gradient = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
    offset_gradient = torch.empty_like(offset)
    mask_gradient = None if mask is None else torch.empty_like(mask)
    with torch.cuda.device_of(rows):
        _sample_gradients[(triton.cdiv(pixels, _PIXELS_BACK), taps)](
            *(rows, offset, offset if mask is None else mask, columns_gradient),
            *(rows_gradient, offset_gradient, offset_gradient if mask_gradient is None else mask_gradient),
            *(pixels, *size, channels),
            HAS_MASK=mask is not None,
            TAPS=taps,
            KERNEL_SIZE=_kernel_size(taps),
            PIXELS=_PIXELS_BACK,
            CHANNELS=min(_CHANNELS_BACK, triton.next_power_of_2(channels)),
        )
    return rows_gradient, offset_gradient, mask_gradient


def _contiguous(
    rows: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Kernels read memory, whatever a compiler has made of the layout."""
    return rows.contiguous(), offset.contiguous(), None if mask is None else mask.contiguous()


def _kernel_size(taps: int) -> int:
    return round(taps**0.5)


@triton.jit
def _sample(
    rows,
    offset,
    mask,
    columns,
    pixels,
    height,
    width,
    channels,
    HAS_MASK: tl.constexpr,
    TAPS: tl.constexpr,
    KERNEL_SIZE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Samples of a block of pixels and channels at one tap."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    tap = tl.program_id(2)
    there = pixel < pixels
    row, row_part, column, column_part = _position(offset, pixel, tap, there, height, width, TAPS, KERNEL_SIZE)
    top_left, top_right, bottom_left, bottom_right = _present(row, column, there, height, width)
    factor = tl.full((PIXELS,), 1.0, dtype=tl.float32)
    if HAS_MASK:
        factor = tl.load(mask + pixel * TAPS + tap, mask=there, other=0.0)
    known = (channel < channels)[None, :]
    at = rows + _number(pixel, row, column, height, width)[:, None] * channels + channel[None, :]
    down = width * channels
    sample = _corner(at, top_left, known, (1 - row_part) * (1 - column_part) * factor)
    sample += _corner(at + channels, top_right, known, (1 - row_part) * column_part * factor)
    sample += _corner(at + down, bottom_left, known, row_part * (1 - column_part) * factor)
    sample += _corner(at + down + channels, bottom_right, known, row_part * column_part * factor)
    target = columns + (pixel * TAPS + tap)[:, None] * channels + channel[None, :]
    tl.store(target, sample.to(columns.dtype.element_ty), mask=there[:, None] & known)


@triton.jit
def _sample_gradients(
    rows,
    offset,
    mask,
    columns_gradient,
    rows_gradient,
    offset_gradient,
    mask_gradient,
    pixels,
    height,
    width,
    channels,
    HAS_MASK: tl.constexpr,
    TAPS: tl.constexpr,
    KERNEL_SIZE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Gradients from the samples of a block of pixels at one tap, all channels."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    tap = tl.program_id(1)
    there = pixel < pixels
    row, row_part, column, column_part = _position(offset, pixel, tap, there, height, width, TAPS, KERNEL_SIZE)
    row_part = tl.where(row_part == row_part, row_part, 0.0)  # NaN reads no pixel: no gradient either
    column_part = tl.where(column_part == column_part, column_part, 0.0)
    top_left, top_right, bottom_left, bottom_right = _present(row, column, there, height, width)
    factor = tl.full((PIXELS,), 1.0, dtype=tl.float32)
    if HAS_MASK:
        factor = tl.load(mask + pixel * TAPS + tap, mask=there, other=0.0)
    first = _number(pixel, row, column, height, width)[:, None] * channels
    down = width * channels
    # Products of the gradient with each of the four rows.
    along_top_left = tl.zeros((PIXELS,), dtype=tl.float32)
    along_top_right = tl.zeros((PIXELS,), dtype=tl.float32)
    along_bottom_left = tl.zeros((PIXELS,), dtype=tl.float32)
    along_bottom_right = tl.zeros((PIXELS,), dtype=tl.float32)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        known = (channel < channels)[None, :]
        given = columns_gradient + (pixel * TAPS + tap)[:, None] * channels + channel[None, :]
        gradient = tl.load(given, mask=there[:, None] & known, other=0.0).to(tl.float32)
        at = rows + first + channel[None, :]
        to = rows_gradient + first + channel[None, :]
        along_top_left += _product(at, top_left, known, gradient)
        along_top_right += _product(at + channels, top_right, known, gradient)
        along_bottom_left += _product(at + down, bottom_left, known, gradient)
        along_bottom_right += _product(at + down + channels, bottom_right, known, gradient)
        _add(to, top_left, known, gradient, (1 - row_part) * (1 - column_part) * factor)
        _add(to + channels, top_right, known, gradient, (1 - row_part) * column_part * factor)
        _add(to + down, bottom_left, known, gradient, row_part * (1 - column_part) * factor)
        _add(to + down + channels, bottom_right, known, gradient, row_part * column_part * factor)
    top = along_top_left * (1 - column_part) + along_top_right * column_part
    bottom = along_bottom_left * (1 - column_part) + along_bottom_right * column_part
    left = along_top_left * (1 - row_part) + along_bottom_left * row_part
    right = along_top_right * (1 - row_part) + along_bottom_right * row_part
    tl.store(offset_gradient + (pixel * TAPS + tap) * 2, (bottom - top) * factor, mask=there)
    tl.store(offset_gradient + (pixel * TAPS + tap) * 2 + 1, (right - left) * factor, mask=there)
    if HAS_MASK:
        tl.store(mask_gradient + pixel * TAPS + tap, top * (1 - row_part) + bottom * row_part, mask=there)


@triton.jit
def _position(offset, pixel, tap, there, height, width, TAPS: tl.constexpr, KERNEL_SIZE: tl.constexpr):
    """Row and column left above each sample, and what it lies beyond them, in px."""
    to_row = tl.load(offset + (pixel * TAPS + tap) * 2, mask=there, other=0.0)
    to_column = tl.load(offset + (pixel * TAPS + tap) * 2 + 1, mask=there, other=0.0)
    row = ((pixel // width) % height).to(tl.float32) + (tap // KERNEL_SIZE - KERNEL_SIZE // 2) + to_row
    column = (pixel % width).to(tl.float32) + (tap % KERNEL_SIZE - KERNEL_SIZE // 2) + to_column
    low_row, row_part = _split(row, height)
    low_column, column_part = _split(column, width)
    return low_row, row_part, low_column, column_part


@triton.jit
def _split(position, size):
    """Whole pixel and rest; far outside a pixel that is not there, and NaN keeps its rest."""
    near = tl.where(position > size, size + 0.0, tl.where(position >= -1, position, -2.0))
    low = tl.floor(near)
    rest = tl.where(position == position, near - low, position)
    return low.to(tl.int64), rest


@triton.jit
def _present(row, column, there, height, width):
    """Whether each of the four pixels lies in the image."""
    top = there & (row >= 0) & (row < height)
    bottom = there & (row >= -1) & (row < height - 1)
    left = (column >= 0) & (column < width)
    right = (column >= -1) & (column < width - 1)
    return top & left, top & right, bottom & left, bottom & right


@triton.jit
def _number(pixel, row, column, height, width):
    """Number of the row of the pixel left above each sample, in the image of ``pixel``."""
    return (pixel // (height * width)) * (height * width) + row * width + column


@triton.jit
def _corner(at, present, known, share):
    """Weighted rows at one corner of the samples; pixels outside the image are zeros."""
    return tl.load(at, mask=present[:, None] & known, other=0.0).to(tl.float32) * share[:, None]


@triton.jit
def _product(at, present, known, gradient):
    """Sum over channels of rows at one corner times the gradient."""
    return tl.sum(tl.load(at, mask=present[:, None] & known, other=0.0).to(tl.float32) * gradient, axis=1)


@triton.jit
def _add(to, present, known, gradient, share):
    """Add the gradient's share to rows at one corner."""
    tl.atomic_add(to, gradient * share[:, None], mask=present[:, None] & known, sem="relaxed")
