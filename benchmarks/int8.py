"""What 8-bit integers would gain in the plain 3 x 3 convolutions, and what they cost.

    python benchmarks/int8.py MODEL FOLD FRAMES

MODEL, FOLD and FRAMES as for ``agreement.py``. Weights get a scale for each output channel, activations one for each
image (its largest value, as if it were known beforehand). Prints, for each shape, milliseconds (fastest of 9)
in oneDNN's float32, bfloat16 and int8 and of making an image 8-bit; then, for every frame, the pixels that float32
and 8-bit call wire over those that either does, all else in float32.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from agreement import foreground, load_network, read_frame
from torch import nn
from torch.nn import functional

from nnunet_fganet.inference.packing import PackedConv2d

RUNS = 9
# Channels in and out, rows and columns.
SHAPES = [
    (32, 32, 512), (64, 32, 512), (64, 64, 256), (128, 128, 128), (256, 256, 64), (512, 512, 32), (1024, 512, 32)
]  # fmt: skip


@torch.no_grad()
def main(model: str, fold: str, frames: str) -> None:
    """Print both tables."""
    print(f"{'shape':>20}{'float32':>10}{'bfloat16':>10}{'int8':>10}{'quantize':>10}")
    for channels, out_channels, size in SHAPES:
        cells = [f"{_fastest(call):>10.1f}" for call in _calls(channels, out_channels, size)]
        print(f"{f'{channels}-{out_channels} {size}x{size}':>20}" + "".join(cells), flush=True)
    network = load_network(model, fold)
    quantized = load_network(model, fold)
    for each in (network, quantized):
        each.inference, each.compute_dtypes = None, {}
    for conv in quantized.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.groups == 1 and conv.in_channels > 1:
            conv.weight.copy_(_rounded_weight(conv.weight))
            conv.register_forward_pre_hook(_round_image)
    both_total = either_total = 0
    for path in sorted(Path(frames).glob("*.png")):
        expected, found = (foreground(net(read_frame(path))) for net in (network, quantized))
        both, either = int((expected & found).sum()), int((expected | found).sum())
        both_total, either_total = both_total + both, either_total + either
        print(f"{path.stem:40}{both:>8}{either:>8}{both / max(either, 1):>10.5f}", flush=True)
    print(f"{'all':40}{both_total:>8}{either_total:>8}{both_total / max(either_total, 1):>10.5f}")


def _calls(channels: int, out_channels: int, size: int) -> list[Callable[[], Any]]:
    """One convolution in float32, bfloat16 and int8 (to bfloat16), and its image made 8-bit."""
    conv = nn.Conv2d(channels, out_channels, 3, padding=1)
    image = torch.rand(1, channels, size, size).contiguous(memory_format=torch.channels_last)
    half, plain, brief = image.bfloat16(), *(PackedConv2d(conv, "none", t) for t in (torch.float32, torch.bfloat16))
    scales, image_scale = conv.weight.abs().amax((1, 2, 3)) / 127, image.max().item() / 255
    weight = (conv.weight / scales.view(-1, 1, 1, 1)).round().to(torch.int8)
    ones = [1, 1]
    packed = torch.ops.onednn.qconv_prepack(weight, scales, image_scale, 0, ones, ones, ones, 1, list(image.shape))
    zero = torch.zeros(out_channels, dtype=torch.int32)

    def quantize() -> torch.Tensor:
        return (image * (1 / image_scale)).round_().clamp_(0, 255).to(torch.uint8)

    integers = quantize()

    def convolve() -> torch.Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            *(integers, image_scale, 0, packed, scales, zero, conv.bias, ones, ones, ones, 1),
            *(1.0, 0, torch.bfloat16, "none", [], ""),
        )

    torch.testing.assert_close(
        convolve().float(), functional.conv2d(image, conv.weight, conv.bias, 1, 1), atol=0.1, rtol=0.1
    )
    return [lambda: plain(image), lambda: brief(half), convolve, quantize]


def _rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    scales = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    return (weight / scales).round() * scales


def _round_image(module: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    (image,) = given
    levels = 255 if image.min() >= 0 else 127
    scale = image.abs().amax() / levels
    return ((image / scale).round() * scale,)


def _fastest(call: Callable[[], Any]) -> float:
    call()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
