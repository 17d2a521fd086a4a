"""CE-Net against the paper's description."""

import pytest
import torch
from comparator_plans import build
from torch import nn
from torch.nn import functional
from torchvision.models import resnet34

from nnunet_fganet.comparators.cenet import (
    CENet,
    DenseAtrousConvolution,
    ResidualMultiKernelPooling,
    ResNet34Encoder,
)
from nnunet_fganet.comparators.registry import RESNET34_WIDTHS


@pytest.fixture(scope="module")
def cenet():
    return CENet(3, 1, widths=RESNET34_WIDTHS).eval()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters(cenet):
    """29.00 M, the figure that is reported of CE-Net, by its parts."""
    encoder = count(resnet34(weights=None)) - (512 * 1000 + 1000)
    context = 3 * (512 * 512 * 9 + 512) + (512 * 512 + 512) + (512 + 1)
    assert count(cenet.encoder) == encoder
    assert count(cenet.network.context) == context
    assert round(count(cenet) / 1e6, 2) == 29.00


def test_the_encoder_is_torchvisions_resnet34():
    library = resnet34(weights=None).eval()
    ours = ResNet34Encoder(3, RESNET34_WIDTHS).eval()
    weights = {name: tensor for name, tensor in library.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(weights)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = ours(x)
        x = library.maxpool(library.relu(library.bn1(library.conv1(x))))
        for actual, layer in zip(
            features, (library.layer1, library.layer2, library.layer3, library.layer4), strict=True
        ):
            x = layer(x)
            assert torch.equal(actual, x)
    assert [f.shape[1:] for f in features] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


def test_branches_of_the_dense_atrous_convolution():
    block = DenseAtrousConvolution(4)
    x = torch.randn(1, 4, 20, 20)

    def atrous(x, convolution, rate):
        return functional.conv2d(x, convolution.weight, convolution.bias, padding=rate, dilation=rate)

    one = atrous(x, block.rate1, 1)
    two = block.pointwise(atrous(x, block.rate3, 3))
    three = block.pointwise(atrous(atrous(x, block.rate1, 1), block.rate3, 3))
    four = block.pointwise(atrous(atrous(atrous(x, block.rate1, 1), block.rate3, 3), block.rate5, 5))
    torch.testing.assert_close(block(x), x + one.relu() + two.relu() + three.relu() + four.relu())


def test_receptive_field_of_the_dense_atrous_convolution_is_19():
    block = DenseAtrousConvolution(1)
    for parameter in block.parameters():
        nn.init.ones_(parameter)
    x = torch.zeros(1, 1, 41, 41, requires_grad=True)
    block(x)[0, 0, 20, 20].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 19


def test_multi_kernel_pooling_by_hand():
    """With a pointwise convolution that copies channel 0: its maxima over windows of 2, 3, 5 and 6 px."""
    block = ResidualMultiKernelPooling(2)
    nn.init.zeros_(block.pointwise.bias)
    block.pointwise.weight.data = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    x = torch.randn(1, 2, 6, 6)
    output = block(x)
    assert output.shape == (1, 6, 6, 6)
    assert torch.equal(output[:, 4:], x)
    torch.testing.assert_close(output[0, 3], x[0, 0].max().expand(6, 6))
    windows = x[0, 0].reshape(2, 3, 2, 3).amax((1, 3))
    corners = output[0, 1][[0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, windows.flatten())


def test_windows_larger_than_the_feature_map_see_all_of_it():
    block = ResidualMultiKernelPooling(1)
    nn.init.ones_(block.pointwise.weight)
    nn.init.zeros_(block.pointwise.bias)
    x = torch.randn(1, 1, 2, 4)
    torch.testing.assert_close(block(x)[0, 3], x.max().expand(2, 4))


def test_decoder_blocks(cenet):
    """1 x 1 to a quarter, transposed 3 x 3 of stride 2, 1 x 1: 516 to 256, 128, 64, 64 channels."""
    for block, (taken, given) in zip(cenet.network.decoder, [(516, 256), (256, 128), (128, 64), (64, 64)], strict=True):
        first, up, last = (m for m in block if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
        assert (first.in_channels, first.out_channels, first.kernel_size) == (taken, taken // 4, (1, 1))
        assert (up.kernel_size, up.stride) == ((3, 3), (2, 2))
        assert (last.out_channels, last.kernel_size) == (given, (1, 1))


def test_skips_are_added():
    """Without the decoder blocks' own contribution the head sees the sum of nothing and the finest skip's path."""
    network = build("cenet").eval()
    inner = network.network
    for block in inner.decoder[:-1]:
        nn.init.zeros_(block[-2].weight)
        nn.init.zeros_(block[-2].bias)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        finest = inner.encoder(x)[0]
        torch.testing.assert_close(network(x), inner.head(inner.decoder[-1](finest)))


def test_initialization_is_torchvisions():
    torch.manual_seed(0)
    network = CENet(1, 1, widths=RESNET34_WIDTHS)
    network.apply(network.initialize)
    weight = network.encoder.layer4[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert network.network.head[-1].bias.abs().max() == 0
