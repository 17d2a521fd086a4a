"""What 8-bit integers would gain in the plain 3 x 3 convolutions, and what they cost.

    python benchmarks/int8.py MODEL FOLD FRAMES

MODEL, FOLD and FRAMES as for ``agreement.py``. Weights get a scale for each output channel, images one each (their
largest value, as if it were known beforehand), 8 bits without a sign where no value is negative. The first
convolution, of one channel, stays as it is. Prints, for each shape, milliseconds (fastest of 9) in oneDNN's float32,
bfloat16 and int8 (whose result is bfloat16), and of making an image 8-bit; then, for every frame, the pixels that the
float32 network and the rounded one call wire over those that either does, all else in float32.
"""

import sys
from collections.abc import Callable

import torch
from agreement import load_network, print_agreement
from convolutions import fastest
from torch import nn
from torch.nn import functional

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.inference.packing import PackedConv2d
from nnunet_fganet.network.fganet import FGANet

# Channels in and out, rows and columns.
SHAPES = [
    (32, 32, 512), (64, 32, 512), (64, 64, 256), (128, 128, 128), (256, 256, 64), (512, 512, 32), (1024, 512, 32)
]  # fmt: skip


@torch.no_grad()
def main(model: str, fold: str, frames: str) -> None:
    """Print both tables."""
    keep_freed_memory()
    print(f"{'shape':>20}{'float32':>10}{'bfloat16':>10}{'int8':>10}{'to 8 bits':>10}")
    for channels, out_channels, size in SHAPES:
        cells = [f"{fastest(call):>10.1f}" for call in _calls(channels, out_channels, size)]
        print(f"{f'{channels}-{out_channels} {size}x{size}':>20}" + "".join(cells), flush=True)
    networks = [load_network(model, fold) for _ in range(2)]
    for network in networks:
        network.inference, network.compute_dtypes = None, {}
    _round(networks[1])
    print_agreement(*networks, frames)


def _calls(channels: int, out_channels: int, size: int) -> list[Callable[[], torch.Tensor]]:
    """One convolution in float32, bfloat16 and int8, and its image made 8-bit."""
    conv = nn.Conv2d(channels, out_channels, 3, padding=1)
    image = torch.rand(1, channels, size, size).contiguous(memory_format=torch.channels_last)
    float32, bfloat16 = (PackedConv2d(conv, "none", dtype) for dtype in (torch.float32, torch.bfloat16))
    bfloat16_image = image.bfloat16()
    scales, image_scale = conv.weight.abs().amax((1, 2, 3)) / 127, image.max().item() / 255
    weight = (conv.weight / scales.view(-1, 1, 1, 1)).round().to(torch.int8)
    stride = padding = dilation = [1, 1]
    packed = torch.ops.onednn.qconv_prepack(
        weight, scales, image_scale, 0, stride, padding, dilation, 1, list(image.shape)
    )
    zero_points = torch.zeros(out_channels, dtype=torch.int32)

    def to_8_bits() -> torch.Tensor:
        return (image * (1 / image_scale)).round_().clamp_(0, 255).to(torch.uint8)

    integers = to_8_bits()

    def int8() -> torch.Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            *(integers, image_scale, 0, packed, scales, zero_points, conv.bias, stride, padding, dilation, 1),
            *(1.0, 0, torch.bfloat16, "none", [], ""),
        )

    expected = functional.conv2d(image, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(int8().float(), expected, atol=0.1, rtol=0.1)
    return [lambda: float32(image), lambda: bfloat16(bfloat16_image), int8, to_8_bits]


def _round(network: FGANet) -> None:
    """Let the 3 x 3 convolutions compute with the values that 8 bits have, though in float32."""
    for conv in network.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.groups == 1 and conv.in_channels > 1:
            scales = conv.weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) / 127
            conv.weight.copy_((conv.weight / scales).round() * scales)
            conv.register_forward_pre_hook(_round_image)


def _round_image(module: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    (image,) = given
    scale = image.abs().amax().clamp(min=1e-12) / (255 if image.min() >= 0 else 127)
    return ((image / scale).round() * scale,)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
