"""Grad-CAM++ against its definition, and what it is made of."""

import sys

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import nn
from torch.nn import functional

from nnunet_fganet.errors import InputError
from nnunet_fganet.explanation.gradcam import (
    grad_cam_plus_plus,
    load_library,
    plain_copy,
    target_pixels,
    wire_logits,
)
from nnunet_fganet.network.fganet import FGANet

SIZE = 8
WHOLE = (slice(None), slice(None))


def small_network(activation):
    """Convolution, an activation, then what is linear: only there the paper's higher derivatives are exact."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1, stride=2),
        activation,
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(5, 1, 3, padding=1),
    )


def by_definition(network, image, pixels):
    """Eqs. 5, 7 and 10 of the paper, with all derivatives of Y = exp(S) from autograd, one element at a time."""
    signed = network[:2](image).detach()
    features, negative = signed.relu().requires_grad_(), signed.clamp(max=0)
    score = network[2:](features + negative)[0, 0][pixels].sum()
    (first,) = torch.autograd.grad(score.exp(), features, create_graph=True)
    second, third = torch.zeros(first.numel(), dtype=first.dtype), torch.zeros(first.numel(), dtype=first.dtype)
    for element in range(first.numel()):
        (row,) = torch.autograd.grad(first.flatten()[element], features, create_graph=True)
        second[element] = row.flatten()[element]
        third[element] = torch.autograd.grad(row.flatten()[element], features, retain_graph=True)[0].flatten()[element]
    second, third = second.view_as(first), third.view_as(first)
    alpha = second / (2 * second + features.sum((2, 3), keepdim=True) * third)
    weights = (alpha * first.relu()).sum((2, 3), keepdim=True)
    cam = (weights * features).sum(1, keepdim=True).relu()
    return functional.interpolate(cam, scale_factor=2, mode="bilinear")[0, 0].detach().numpy()


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.3), nn.Identity()])
def test_the_map_is_that_of_the_papers_definition(activation):
    network = small_network(activation)
    torch.manual_seed(5)
    image = torch.randn(1, 1, SIZE, SIZE)
    pixels = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    pixels[2:5, 3:7] = True
    found = grad_cam_plus_plus(plain_copy(network), image, "1", pixels, regions=True)
    expected = by_definition(network.double(), image.double(), pixels)
    assert expected.max() > 0
    stretched = (expected - expected.min()) / (expected.max() - expected.min())  # as the library does
    np.testing.assert_allclose(found, stretched, atol=1e-3)


def test_what_an_activation_overwrites_is_explained_all_the_same():
    image, pixels = torch.randn(1, 1, SIZE, SIZE), torch.ones(SIZE, SIZE, dtype=torch.bool)
    kept, overwritten = (
        grad_cam_plus_plus(plain_copy(small_network(activation)), image, "0", pixels, regions=True)
        for activation in (nn.Hardtanh(-0.1, 0.1), nn.Hardtanh(-0.1, 0.1, inplace=True))
    )
    assert kept.any()
    np.testing.assert_array_equal(kept, overwritten)


def test_a_plain_copy_leaves_the_network_as_it_was():
    network = FGANet(1, 1, features_per_stage=[8, 16, 16, 16]).train()
    network.compute_dtypes, network.inference = {"cpu": torch.bfloat16}, lambda *_: None
    plain = plain_copy(network)
    assert plain.inference is None and plain.compute_dtypes == {} and not plain.training
    assert network.inference is not None and network.compute_dtypes and network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(("channels", "regions"), [(1, True), (2, True), (3, True), (2, False), (3, False)])
def test_wire_logits_are_positive_exactly_where_nnunet_predicts_wire(channels, regions):
    foreground = range(1, channels + 1 if regions else channels)
    labels = {f"wire{number}": [number, number] if regions else number for number in foreground}
    manager = LabelManager({"background": 0, **labels}, list(foreground) if regions else None)
    logits = torch.randn(channels, 16, 16)
    mask = manager.convert_logits_to_segmentation(logits)
    assert torch.equal(wire_logits(logits, regions) > 0, mask > 0)


def test_the_predicted_pixels_inside_are_the_target():
    logits = torch.full((1, 6, 6), -1.0)
    logits[0, 0, 0] = logits[0, 3, 2:5] = 1
    pixels = target_pixels(logits, True, (slice(1, 6), slice(0, 4)), share=0.1)
    assert pixels.nonzero().tolist() == [[3, 2], [3, 3]]


def test_without_a_prediction_the_strongest_pixels_inside_are_the_target():
    logits = -torch.arange(36.0).view(1, 6, 6) - 1
    pixels = target_pixels(logits, True, (slice(1, 6), slice(0, 4)), share=0.1)
    assert pixels.nonzero().tolist() == [[1, 0], [1, 1]]
    assert target_pixels(logits, True, WHOLE, share=0).nonzero().tolist() == [[0, 0]]


def test_without_the_library_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(InputError, match=r"pip install 'nnunet_fganet\[explain\]'"):
        load_library()
