"""Which layers a map can be made of, and how they are named."""

import pytest
import torch
from torch import nn

from nnunet_fganet.errors import InputError
from nnunet_fganet.explanation.layers import default_layer, find_layer, run_and_list_layers
from nnunet_fganet.network.fganet import FGANet

WIDTHS = [8, 8, 16, 16, 16]


class Odd(nn.Module):
    """Modules that no map can be made of, beside one that gives one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.twice = nn.ReLU()
        self.pooled = nn.AdaptiveAvgPool2d(1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        x = self.twice(self.first(x))
        return self.head(self.twice(x * self.pooled(x)))


def listed(network, size=64):
    return run_and_list_layers(network.eval(), torch.randn(1, 1, size, size))[1]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "decoder.stages.1.sda"),
        ({"sda": False}, "decoder.stages.3"),
        ({"bga": False, "sda": False}, "decoder.stages.3"),
        ({"features_per_stage": WIDTHS[:3]}, "decoder.stages.1"),  # three stages: the decoder has no SDA
    ],
)
def test_the_default_is_the_decoders_last_sda_or_else_its_last_stage(options, name):
    network = FGANet(1, 1, **{"features_per_stage": WIDTHS, **options})
    assert default_layer(network, listed(network)).name == name


def test_layers_are_listed_in_order_with_their_sizes():
    network = FGANet(1, 1, features_per_stage=WIDTHS)
    layers = {layer.name: layer for layer in listed(network)}
    assert layers["encoder.stages.0"][2:] == (8, 64, 64)
    assert layers["decoder.stages.1.sda.deform_conv"][1:] == ("DeformConv2d", 32, 16, 16)
    assert layers["decoder.seg_layers.0"][2:] == (1, 64, 64)
    assert "decoder.seg_layers.1" not in layers  # deep supervision: not run in prediction
    order = list(layers)
    assert order.index("encoder.stages.4") < order.index("decoder.stages.0") < order.index("decoder.seg_layers.0")
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", ["twice", "pooled", "unused"])
def test_modules_without_one_feature_map_are_named(name):
    network = Odd()
    layers = listed(network)
    assert [layer.name for layer in layers] == ["first", "head"]
    with pytest.raises(InputError, match=f"no map can be made of layer {name}"):
        find_layer(network, layers, name)


def test_an_unknown_layer_brings_near_names():
    network = FGANet(1, 1, features_per_stage=WIDTHS)
    with pytest.raises(InputError, match=r"no layer decoder.stage.1.sda: did you mean decoder\.stages\.1\.sda"):
        find_layer(network, listed(network), "decoder.stage.1.sda")
    with pytest.raises(InputError, match=r"no layer x: --list-layers"):
        find_layer(network, listed(network), "x")
