"""Where the time of a call goes, by part of the network."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import nn

from nnunet_fganet.inference.bga import PreparedBGA
from nnunet_fganet.inference.deform import PackedDeformConv2d
from nnunet_fganet.inference.packing import (
    Bfloat16Conv2d,
    DepthwiseConv2d,
    FewChannelsConv2d,
    FixedPointConv2d,
    PackedConv2d,
    WinogradConv2d,
)
from nnunet_fganet.inference.sda import PreparedSDA
from nnunet_fganet.network.bga import BGA
from nnunet_fganet.network.deform_conv import DeformConv2d
from nnunet_fganet.network.sda import SDA

_LONGEST_NAME = 70
REST = "upsampling, concatenation, pooling"
PARTS: dict[type[nn.Module], str] = {
    DeformConv2d: "deformable convolutions",
    PackedDeformConv2d: "deformable convolutions",
    nn.Conv2d: "convolutions",
    PackedConv2d: "convolutions",
    WinogradConv2d: "convolutions",
    Bfloat16Conv2d: "convolutions",
    FixedPointConv2d: "convolutions",
    FewChannelsConv2d: "convolutions",
    DepthwiseConv2d: "convolutions",
    SDA: "rest of SDA",
    PreparedSDA: "rest of SDA",
    BGA: "rest of BGA",
    PreparedBGA: "rest of BGA",
    nn.BatchNorm2d: "BatchNorm, activation",
    nn.LeakyReLU: "BatchNorm, activation",
    nn.ReLU: "BatchNorm, activation",
}


def time_by_part(
    module: nn.Module, call: Callable[[], object], parts: Mapping[type[nn.Module], str] = PARTS
) -> dict[str, float]:
    """Milliseconds of one call of an eager module by ``parts``, each without the parts inside it."""
    totals: dict[str, float] = defaultdict(float)
    running: list[tuple[str, float]] = []

    def switch() -> float:
        """Add the time since the last change to the innermost part."""
        now = time.perf_counter()
        if running:
            part, since = running[-1]
            totals[part] += (now - since) * 1e3
        return now

    def enter(part: str) -> None:
        running.append((part, switch()))

    def leave() -> None:
        now = switch()
        running.pop()
        if running:
            running[-1] = running[-1][0], now

    handles = []
    for child in module.modules():
        part = next((parts[kind] for kind in type(child).__mro__ if kind in parts), None)
        if part is not None:
            handles.append(child.register_forward_pre_hook(lambda *_, part=part: enter(part)))
            handles.append(child.register_forward_hook(lambda *_: leave()))
    try:
        enter(REST)
        call()
        leave()
    finally:
        for handle in handles:
            handle.remove()
    return dict(totals)


def time_by_kernel(call: Callable[[], object], runs: int = 5) -> list[tuple[str, float, float]]:
    """Kernels of one call on a GPU, the longest first: name, how many, and milliseconds of all of them.

    On a GPU the time of a part of the network says nothing: calls return before anything is computed.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(runs):
            call()
        torch.cuda.synchronize()
    kernels = [
        (each.key[:_LONGEST_NAME], each.count / runs, each.self_device_time_total / runs / 1e3)
        for each in profile.key_averages()
    ]
    return sorted(kernels, key=lambda kernel: -kernel[2])
