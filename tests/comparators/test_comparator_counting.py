"""Operations of the comparators at 3 x 512 x 512, and those with which the paper's Table 1 was made.

The paper's column is met by arithmetic on the networks that are described here layer by layer, in the
rules of thop 0.1.1. Where a library's network differs from them, so does its count.
"""

import pytest
import torch
from comparator_plans import build
from torch import nn

from nnunet_fganet.comparators.cenet import CENet
from nnunet_fganet.comparators.counting import multiply_accumulates, paper_count
from nnunet_fganet.comparators.registry import RESNET34_WIDTHS
from nnunet_fganet.network.counting import conv_feature_map_size
from nnunet_fganet.network.fganet import FGANet

SIDE = 512
PAPER = {
    "unet": 54.98,
    "unetplusplus": 139.61,
    "attention_unet": 266.53,
    "cenet": 35.60,
    "deeplabv3plus": 83.32,
}


def giga(operations):
    return round(operations / 1e9, 2)


def convolution(taken, given, kernel, side):
    return side**2 * taken * given * kernel**2


def normalisation(channels, side):
    return 4 * channels * side**2


def convolutions(taken, given, side, number=2):
    """``number`` times [3 x 3, BatchNorm, ReLU]."""
    first = convolution(taken, given, 3, side)
    later = (number - 1) * convolution(given, given, 3, side)
    return first + later + number * normalisation(given, side)


def encoder(widths):
    return sum(
        convolutions(taken, given, SIDE >> stage)
        for stage, (taken, given) in enumerate(zip((3, *widths), widths, strict=False))
    )


def unet_of_the_paper():
    """32 to 512 channels, transposed 2 x 2 convolutions (each output element counted with the whole kernel)."""
    widths = (32, 64, 128, 256, 512)
    decoder = sum(
        convolution(2 * width, width, 2, SIDE >> stage) + convolutions(2 * width, width, SIDE >> stage)
        for stage, width in enumerate(widths[:-1])
    )
    return encoder(widths) + decoder + convolution(32, 1, 1, SIDE)


def unetplusplus_of_the_paper():
    """32 to 512 channels; each node sees all before it and the upsampled one below (bilinear, a module); one head."""
    widths = (32, 64, 128, 256, 512)
    nodes = sum(
        convolutions(column * width + widths[row + 1], width, SIDE >> row) + 11 * widths[row + 1] * (SIDE >> row) ** 2
        for row, width in enumerate(widths[:-1])
        for column in range(1, 5 - row)
    )
    return encoder(widths) + nodes + convolution(32, 1, 1, SIDE)


def attention_unet_of_the_paper():
    """64 to 1024 channels; nearest upsampling (a module) and 3 x 3 convolution; gates of half the channels."""
    widths = (64, 128, 256, 512, 1024)
    total = encoder(widths) + convolution(64, 1, 1, SIDE)
    for stage, width in enumerate(widths[:-1]):
        side, half = SIDE >> stage, width // 2
        up = 2 * width * side**2 + convolutions(2 * width, width, side, number=1)
        gate = 2 * (convolution(width, half, 1, side) + normalisation(half, side))
        gate += convolution(half, 1, 1, side) + normalisation(1, side)
        total += up + gate + convolutions(2 * width, width, side)
    return total


def separable(taken, given, side, stride=1):
    """Depthwise 3 x 3, BatchNorm, pointwise, BatchNorm."""
    side //= stride
    depthwise = convolution(1, taken, 3, side) + normalisation(taken, side)
    return depthwise + convolution(taken, given, 1, side) + normalisation(given, side)


def xception_block(taken, widths, side, stride=1, shortcut=True):
    *first, last = zip((taken, *widths), widths, strict=False)
    total = sum(separable(*channels, side) for channels in first) + separable(*last, side, stride)
    if shortcut and (taken != widths[-1] or stride > 1):
        total += convolution(taken, widths[-1], 1, side // stride) + normalisation(widths[-1], side // stride)
    return total


def deeplabv3plus_of_the_paper():
    """Xception-65 of output stride 16, plain convolutions in the pyramid, two plain 3 x 3 in the decoder."""
    total = convolutions(3, 32, 256, number=1) + convolutions(32, 64, 256, number=1)
    total += xception_block(64, (128,) * 3, 256, 2)
    total += xception_block(128, (256,) * 3, 128, 2)
    total += xception_block(256, (728,) * 3, 64, 2)
    total += 16 * xception_block(728, (728,) * 3, 32)
    total += xception_block(728, (728, 1024, 1024), 32)
    total += xception_block(1024, (1536, 1536, 2048), 32, shortcut=False)
    pyramid = convolution(2048, 256, 1, 32) + 3 * convolution(2048, 256, 3, 32) + 4 * normalisation(256, 32)
    pooled = convolution(2048, 256, 1, 1) + normalisation(256, 1) + 2048 * (32**2 + 1)
    project = convolution(5 * 256, 256, 1, 32) + normalisation(256, 32)
    low = convolution(128, 48, 1, 128) + normalisation(48, 128)
    decoder = convolutions(304, 256, 128, number=2)
    return total + pyramid + pooled + project + low + decoder + convolution(256, 1, 1, 128)


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("unet", unet_of_the_paper()),
        ("unetplusplus", unetplusplus_of_the_paper()),
        ("attention_unet", attention_unet_of_the_paper()),
        ("deeplabv3plus", deeplabv3plus_of_the_paper()),
    ],
)
def test_the_papers_networks_are_recovered(name, operations):
    assert giga(operations) == PAPER[name]


@pytest.mark.parametrize(
    ("name", "paper", "macs", "parameters"),
    [
        ("unet", 54.98, 48.28, 7.77),
        ("unetplusplus", 125.75, 124.28, 8.39),
        ("attention_unet", 227.65, 169.06, 31.74),
        ("cenet", 35.60, 28.59, 29.00),
        ("deeplabv3plus", 63.70, 62.99, 53.56),
    ],
)
def test_counts_of_the_comparators(name, paper, macs, parameters):
    network = build(name, input_channels=3, scale=1.0)
    assert giga(paper_count(network, 3, (SIDE, SIDE))) == paper
    assert giga(multiply_accumulates(network, 3, (SIDE, SIDE))) == macs
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == parameters


def test_cenet_meets_the_papers_column():
    assert giga(paper_count(CENet(3, 1, widths=RESNET34_WIDTHS), 3, (SIDE, SIDE))) == PAPER["cenet"]


def test_fganet_meets_the_papers_column():
    network = FGANet(3, 1, deep_supervision=True)
    assert giga(paper_count(network, 3, (SIDE, SIDE))) == 75.36
    assert giga(multiply_accumulates(network, 3, (SIDE, SIDE))) == 106.15


def test_rules_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),  # 8 x 8
        nn.BatchNorm2d(8),
        nn.InstanceNorm2d(8),
        nn.ConvTranspose2d(8, 4, 2, stride=2),  # 16 x 16
        nn.Upsample(scale_factor=2, mode="bilinear"),  # 32 x 32
        nn.Upsample(scale_factor=2),  # 64 x 64
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.PReLU(),
        nn.AdaptiveAvgPool2d(1),
    )
    convolved = 64 * 8 * 27 + 256 * 4 * 8 * 4 + 4096 * 4 * 9
    others = (4 + 2) * 64 * 8 + (11 * 1024 + 4096) * 4 + 4096 * 4 + 4097 * 4
    expected = convolved + others
    assert paper_count(network, 3, (16, 16)) == expected
    honest = 64 * 8 * 27 + 64 * 8 * 4 * 4 + 4096 * 4 * 9
    assert multiply_accumulates(network, 3, (16, 16)) == honest
    assert conv_feature_map_size(network, 3, (16, 16)) == 64 * 8 + 256 * 4 + 4096 * 4


def test_nothing_is_computed_and_nothing_is_left_behind():
    network = build("unet")
    hooks = [len(module._forward_hooks) for module in network.modules()]
    paper_count(network, 1, (4096, 4096))
    assert [len(module._forward_hooks) for module in network.modules()] == hooks
    assert next(network.parameters()).device == torch.device("cpu")
    assert network.training
