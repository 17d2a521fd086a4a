"""Winograd's convolution beside oneDNN's, for shapes that FGA-Net has at 512 x 512 and some of narrower ones.

    python benchmarks/convolutions.py [training | wide]

Prints, for each 3 x 3 convolution: milliseconds (fastest of 9) in oneDNN's float32 and bfloat16, in Winograd's float32
and, where there are matrix units for them, in 16-bit integers of float16 images and in bfloat16 by loops of ours, and
the largest error of each over the largest value of a convolution in float64. With ``training``, for shapes of a
training on two patches of 256 x 256: the gradient of the weights in the first three ways, then the forward pass in the
first four, with weights that are made ready each time and integers of float32 images. With ``wide``, where there are
matrix units: convolutions in bfloat16 of other kernels and strides, too, by oneDNN and by ours.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.compiled.fixed_point import fixed_point_conv2d
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.winograd import transformed_weight
from nnunet_fganet.compiled.winograd_gradient import winograd_weight_gradient
from nnunet_fganet.inference.packing import Bfloat16Conv2d, FixedPointConv2d, PackedConv2d, WinogradConv2d
from nnunet_fganet.network.conv import convolve_by_winograd
from nnunet_fganet.network.deform_gather import channel_rows

RUNS = 9
# Channels in and out, rows and columns.
SHAPES = [
    (32, 32, 512), (64, 32, 512), (64, 64, 256), (128, 64, 256), (128, 128, 128),
    (256, 128, 128), (256, 256, 64), (512, 256, 64), (512, 512, 32), (1024, 512, 32), (512, 512, 16),
    (16, 16, 512), (16, 64, 256), (64, 18, 128), (256, 18, 128), (1024, 18, 32),
]  # fmt: skip
# Channels in and out, rows and columns, kernel, stride.
WIDE_SHAPES = [
    (1024, 1024, 32, 1, 1), (512, 512, 64, 1, 1), (256, 256, 128, 1, 1), (128, 128, 128, 1, 1),
    (512, 512, 32, 3, 2), (256, 256, 64, 3, 2), (128, 128, 128, 3, 2), (512, 256, 32, 3, 1), (256, 128, 64, 3, 1),
    (256, 512, 32, 3, 1), (128, 256, 64, 3, 1), (128, 64, 128, 3, 1), (512, 18, 64, 3, 1), (256, 18, 32, 3, 1),
]  # fmt: skip
TRAINING_BATCH = 2
TRAINING_SHAPES = [
    (32, 32, 256), (64, 32, 256), (64, 64, 128), (128, 64, 128), (128, 128, 64), (256, 128, 64), (256, 256, 32),
    (512, 256, 32), (512, 512, 32), (512, 512, 16),
]  # fmt: skip


@torch.no_grad()
def main() -> None:
    """Print the table."""
    keep_freed_memory()
    ways = ["float32", "bfloat16", "Winograd", *(["integers", "ours, bf16"] if has_matrix_units() else [])]
    print(f"{'shape':>20}" + "".join(f"{way:>12}" for way in ways) + f"{'errors of the same':>32}")
    for channels, out_channels, size in SHAPES:
        conv = nn.Conv2d(channels, out_channels, 3, padding=1)
        image = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)
        exact = functional.conv2d(image.double(), conv.weight.double(), conv.bias.double(), padding=1)
        cells = []
        candidates: list[tuple[nn.Module, torch.Tensor]] = [
            (PackedConv2d(conv, "none", torch.float32), image),
            (PackedConv2d(conv, "none", torch.bfloat16), image.bfloat16()),
            (WinogradConv2d(conv, "none"), image),
        ]
        if has_matrix_units():
            candidates.append((FixedPointConv2d(conv, "none", torch.float16), image.half()))
            candidates.append((Bfloat16Conv2d(conv, "none"), image.bfloat16()))
        for ready, x in candidates:
            error = ((ready(x) - exact).abs().max() / exact.abs().max()).item()
            cells.append((fastest(lambda ready=ready, x=x: ready(x)), error))
        times, errors = zip(*cells, strict=True)
        shape = f"{channels}-{out_channels} {size}x{size}"
        print(
            f"{shape:>20}" + "".join(f"{t:>12.1f}" for t in times) + "".join(f"{e:>10.0e}" for e in errors), flush=True
        )


@torch.no_grad()
def wide() -> None:
    """Print the table of convolutions in bfloat16."""
    keep_freed_memory()
    if not has_matrix_units():
        raise SystemExit("this processor has no matrix units that this process may use")
    print(f"{'shape, kernel, stride':>30}{'oneDNN':>10}{'ours':>10}")
    for channels, out_channels, size, kernel, stride in WIDE_SHAPES:
        conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2)
        image = torch.randn(1, channels, size, size).bfloat16().contiguous(memory_format=torch.channels_last)
        candidates = PackedConv2d(conv, "none", torch.bfloat16), Bfloat16Conv2d(conv, "none")
        times = [fastest(lambda ready=ready, x=image: ready(x)) for ready in candidates]
        shape = f"{channels}-{out_channels} {size}x{size}, {kernel}, {stride}"
        print(f"{shape:>30}" + "".join(f"{each:>10.2f}" for each in times), flush=True)


@torch.no_grad()
def training() -> None:
    """Print the table of a training."""
    keep_freed_memory()
    print(f"{'':>20}{'gradient of the weights':>30}{'forward':>30}")
    columns = 2 * f"{'float32':>10}{'bfloat16':>10}{'Winograd':>10}"
    print(f"{'shape':>20}" + columns + (f"{'integers':>10}" if has_matrix_units() else ""))
    for channels, out_channels, size in TRAINING_SHAPES:
        shape = f"{channels}-{out_channels} {size}x{size}"
        times = training_times(channels, out_channels, size)
        print(f"{shape:>20}" + "".join(f"{each:>10.1f}" for each in times), flush=True)


def training_times(channels: int, out_channels: int, size: int) -> list[float]:
    """Milliseconds of one shape in each way: the gradient of the weights, then forward."""
    image, weight, gradient = exact = [
        torch.randn(shape).contiguous(memory_format=torch.channels_last)
        for shape in (
            (TRAINING_BATCH, channels, size, size),
            (out_channels, channels, 3, 3),
            (TRAINING_BATCH, out_channels, size, size),
        )
    ]
    rounded = [each.bfloat16() for each in exact]
    bias = torch.zeros(out_channels)
    times = [
        fastest(lambda: plain_gradient(*exact)),
        fastest(lambda: plain_gradient(*rounded)),
        fastest(lambda: winograd_weight_gradient(channel_rows(image), channel_rows(gradient), size, size)),
        fastest(lambda: functional.conv2d(*exact[:2], padding=1)),
        fastest(lambda: functional.conv2d(*rounded[:2], padding=1)),
        fastest(lambda: convolve_by_winograd(image, transformed_weight(weight), bias)),
    ]
    if has_matrix_units():
        rows, more = image.permute(0, 2, 3, 1), (bias, 1, 1.0, torch.float32)
        times.append(fastest(lambda: fixed_point_conv2d(rows, *fixed_point_weight(weight), *more)))
    return times


def plain_gradient(image: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Of the weights, by torch's own convolution."""
    wanted = [False, True, False]
    given = (gradient, image, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted)
    return torch.ops.aten.convolution_backward(*given)[1]


def fastest(call: Callable[[], torch.Tensor]) -> float:
    """Milliseconds of the fastest of some calls."""
    call()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


if __name__ == "__main__":
    {"training": training, "wide": wide}.get("".join(sys.argv[1:]), main)()
