"""The arithmetic limit of a machine: what its best convolutions reach."""

import time

import torch
from torch import nn

from nnunet_fganet.inference.packing import PackedConv2d
from nnunet_fganet.network.counting import MULTIPLY_ADDS

# (channels, height and width) of 3 x 3 convolutions as FGA-Net has them; the fastest counts.
_SHAPES = ((128, 128), (256, 64), (512, 64))
_RUNS = 5
_GPU_CALLS = 50  # in a row: one alone takes longer to launch than to run


@torch.no_grad()
def convolution_throughput(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest of a few 3 x 3 convolutions."""
    return max(_throughput(channels, size, device, dtype) for channels, size in _SHAPES)


def _throughput(channels: int, size: int, device: str, dtype: torch.dtype) -> float:
    conv = PackedConv2d(nn.Conv2d(channels, channels, 3, padding=1).to(device), "none", dtype)
    x = torch.randn(1, channels, size, size, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    fastest = float("inf")
    calls = _GPU_CALLS if device == "cuda" else 1
    for _ in range(1 + _RUNS):  # the fastest is never the first, which warms up
        start = time.perf_counter()
        for _ in range(calls):
            conv(x)
        if device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, (time.perf_counter() - start) / calls)
    return MULTIPLY_ADDS * 9 * channels**2 * size**2 / fastest
