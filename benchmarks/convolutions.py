"""Winograd's convolution beside oneDNN's, for shapes that FGA-Net has at 512 x 512 and some of narrower ones.

    python benchmarks/convolutions.py

Prints, for each 3 x 3 convolution: milliseconds (fastest of 9) in oneDNN's float32 and bfloat16 and in
Winograd's float32, and the largest error of each over the largest value of a convolution in float64.
"""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.inference.packing import PackedConv2d, WinogradConv2d

RUNS = 9
# Channels in and out, rows and columns.
SHAPES = [
    (32, 32, 512), (64, 32, 512), (64, 64, 256), (128, 64, 256), (128, 128, 128),
    (256, 128, 128), (256, 256, 64), (512, 256, 64), (512, 512, 32), (1024, 512, 32), (512, 512, 16),
    (16, 16, 512), (16, 64, 256), (64, 18, 128), (256, 18, 128), (1024, 18, 32),
]  # fmt: skip


@torch.no_grad()
def main() -> None:
    """Print the table."""
    keep_freed_memory()
    print(f"{'shape':>20}{'float32':>10}{'bfloat16':>10}{'Winograd':>10}{'errors of the three':>32}")
    for channels, out_channels, size in SHAPES:
        conv = nn.Conv2d(channels, out_channels, 3, padding=1)
        image = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)
        exact = functional.conv2d(image.double(), conv.weight.double(), conv.bias.double(), padding=1)
        cells = []
        for ready, x in (
            (PackedConv2d(conv, "none", torch.float32), image),
            (PackedConv2d(conv, "none", torch.bfloat16), image.bfloat16()),
            (WinogradConv2d(conv, "none"), image),
        ):
            error = ((ready(x) - exact).abs().max() / exact.abs().max()).item()
            cells.append((fastest(lambda ready=ready, x=x: ready(x)), error))
        times, errors = zip(*cells, strict=True)
        shape = f"{channels}-{out_channels} {size}x{size}"
        print(
            f"{shape:>20}" + "".join(f"{t:>10.1f}" for t in times) + "".join(f"{e:>12.1e}" for e in errors), flush=True
        )


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
    main()
