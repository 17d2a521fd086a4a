"""Images that a training in bfloat16 hands on: rounded, with the exact numbers beside them."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.compiled import sample_weight_gradient
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.network import conv, deform_gather, normalized
from nnunet_fganet.network.bga import BGA, concatenate
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.conv_block import ConvBlock
from nnunet_fganet.network.deform_conv import DeformConv2d
from nnunet_fganet.network.pooling import MaxPool2d
from nnunet_fganet.network.rounded import exact, is_rounded
from nnunet_fganet.network.sda import SDA


def image(channels=16, size=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, size, size, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


class Stage(nn.Module):
    """All that computes rounded images, one after the other."""

    def __init__(self, channels=16, norm="batch", backend="auto"):
        super().__init__()

        def block():
            return ConvBlock(channels, channels, channels, norm, dropout=0)

        self.block, self.pool, self.deep = block(), MaxPool2d(), block()
        self.sda = SDA(channels, backend=backend, zero_offsets=False)
        self.bga, self.head = BGA(channels, norm), Conv2d(2 * channels, 1, 1)

    def forward(self, x):
        skip = self.block(x)
        deep = self.deep(self.sda(self.pool(skip)))
        return self.head(concatenate(self.bga(skip, deep), deep, self.training))


def make_stage(by_integers=False, **given):
    torch.manual_seed(0)
    stage = Stage(**given).train().to(memory_format=torch.channels_last)
    for module in stage.modules():
        if isinstance(module, Conv2d | DeformConv2d):
            module.by_integers = by_integers
    return stage


def test_images_are_handed_on_rounded():
    block, x = ConvBlock(16, 16, 16, dropout=0).train(), image()
    expected = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = block(x)
    assert not is_rounded(expected) and is_rounded(found)
    assert exact(expected) is expected and exact(found).dtype == torch.float32
    torch.testing.assert_close(exact(found), expected)
    assert torch.equal(found, exact(found).bfloat16())


def test_what_was_written_to_has_no_exact_numbers():
    with torch.autocast("cpu", torch.bfloat16):
        found = ConvBlock(16, 16, 16, dropout=0).train()(image())
    with torch.no_grad():
        found.mul_(2)
    assert not is_rounded(found) and torch.equal(exact(found), found.float())


def results_of(stage, x, in_bfloat16):
    """Logits and all gradients."""
    stage.zero_grad()
    given = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        out = stage(given)
    labels = (image(1, x.shape[-1], seed=1) > 0).float()
    functional.binary_cross_entropy_with_logits(out, labels).backward()
    return out.detach(), [given.grad, *(parameter.grad for parameter in stage.parameters())]


STAGES = {
    "widths of a vector": {},
    "other widths": {"channels": 24},
    "wide": {"channels": 32},
    "instance": {"norm": "instance"},
    "torchvision": {"backend": "torchvision"},
    "by integers": {"channels": 32, "by_integers": True},
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_computes_with_the_exact_numbers_and_rounds_gradients_alone(name):
    stage, x = make_stage(**STAGES[name]), image(STAGES[name].get("channels", 16))
    (expected, right), (found, gradients) = results_of(stage, x, False), results_of(stage, x, True)
    assert found.dtype == torch.float32
    # torchvision's deformable convolution itself is computed in bfloat16, integers have 16 bits.
    tolerance = {"torchvision": 0.02, "by integers": 2e-3}.get(name, 1e-4)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(gradients, right, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.05 * theirs.norm() + 1e-4


def test_a_processor_without_matrix_units_mixes_gradients_in_both_formats(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    monkeypatch.setattr(conv, "_FEWEST_AGAINST_DOT_PRODUCTS", 1)
    for module in (conv, deform_gather, sample_weight_gradient):
        monkeypatch.setattr(module, "has_matrix_units", lambda: False)
    stage, x, dtypes = make_stage(), image(), []
    normalize_gradients = normalized.normalize_gradients
    monkeypatch.setattr(
        normalized,
        "normalize_gradients",
        lambda gradient, *rest: dtypes.append((gradient.dtype, rest[-1])) or normalize_gradients(gradient, *rest),
    )
    (expected, right), (found, gradients) = results_of(stage, x, False), results_of(stage, x, True)
    assert {written for _, written in dtypes} == {torch.float32, torch.bfloat16}
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(gradients, right, strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm() + 1e-4


def test_weights_that_become_integers_are_kept_rounded():
    stage = make_stage(by_integers=True, channels=32)
    way = stage.block[0].way(image(32))
    assert way is not None and way.rounded_weight(stage.block[0].weight) is None  # float32 gradients
    with torch.autocast("cpu", torch.bfloat16):
        way = stage.block[0].way(image(32))
    rounded = way.rounded_weight(stage.block[0].weight)
    assert (rounded is not None) == way.forward_by_integers == has_matrix_units()
    if rounded is not None:
        way.output(image(32), stage.block[0].weight.detach(), None, rounded)
        assert torch.equal(rounded, stage.block[0].weight.bfloat16())


def test_half_rounded_images_are_joined():
    """A hook on one branch makes it float32, or its rounded image without exact numbers."""
    bga, x = BGA(16).train().to(memory_format=torch.channels_last), image()
    expected = bga(x, image(16, 6))
    bga.low_coarse[1].register_forward_hook(lambda module, given, out: None)
    with torch.autocast("cpu", torch.bfloat16):
        found = bga(x, image(16, 6))
    torch.testing.assert_close(exact(found), expected, rtol=1e-3, atol=1e-3)
    found.sum().backward()


def test_gradients_between_modules_are_in_bfloat16():
    stage, dtypes = make_stage(), []

    def look(module, given, out):
        out.register_hook(lambda gradient: dtypes.append(gradient.dtype))

    for module in (stage.block, stage.pool, stage.sda, stage.deep, stage.bga):
        module.register_forward_hook(look)
    with torch.autocast("cpu", torch.bfloat16):
        stage(image()).sum().backward()
    assert dtypes == 5 * [torch.bfloat16]


def test_the_largest_pixel_is_that_of_the_exact_numbers():
    numbers = torch.tensor([[1.0, 1.001], [1.0005, 0.0]]).view(1, 1, 2, 2)  # all but one are 1 in bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        block = ConvBlock(16, 16, 16, dropout=0).train()
        x = block(image())
        exact(x)[:, :1, :2, :2] = numbers
        pooled = MaxPool2d()(x)
    assert exact(pooled)[0, 0, 0, 0] == numbers.max()
    (gradient,) = torch.autograd.grad(pooled[0, 0, 0, 0], x)
    assert gradient[0, 0, 0, 1] == 1 and gradient.sum() == 1


@pytest.mark.parametrize("keeps", [True, False])
def test_exact_numbers_are_freed_before_the_backward_pass(keeps):
    stage = make_stage()
    kept, images = [], []

    def look(module, given, out):
        kept.append(weakref.ref(exact(out)))
        images.extend([out] if keeps else [])

    for module in (stage.block, stage.pool, stage.sda, stage.deep, stage.bga):
        module.register_forward_hook(look)
    with torch.autocast("cpu", torch.bfloat16):
        out = stage(image())
    gc.collect()
    assert [each() is not None for each in kept] == 5 * [keeps]
    out.sum().backward()


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_pooling_and_its_gradient_are_torchs(size):
    with torch.autocast("cpu", torch.bfloat16):
        x = ConvBlock(16, 16, 16, dropout=0).train()(image(size=12)[:, :, : size[0], : size[1]])
        found = MaxPool2d()(x)
    numbers = exact(x).clone().requires_grad_()
    expected = functional.max_pool2d(numbers, 2)
    gradient = torch.randn(expected.shape).bfloat16()
    assert torch.equal(exact(found), expected)
    (ours,), (right,) = (
        torch.autograd.grad(found, x, gradient),
        torch.autograd.grad(expected, numbers, gradient.float()),
    )
    assert ours.dtype == torch.bfloat16 and torch.equal(ours.float(), right)


def test_what_is_written_to_after_it_was_used_has_no_gradient():
    head = Conv2d(16, 1, 1).train()
    with torch.autocast("cpu", torch.bfloat16):
        x = ConvBlock(16, 16, 16, dropout=0).train()(image())
        out = head(x)
    with torch.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_second_gradients_are_refused():
    head = Conv2d(16, 1, 1).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = head(ConvBlock(16, 16, 16, dropout=0).train()(image()))
    with pytest.raises(RuntimeError, match="no second gradients"):
        torch.autograd.grad(out.square().sum(), head.weight, create_graph=True)


def test_inference_mode_with_a_network_that_trains():
    stage = make_stage()
    expected = stage(image())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = stage(image())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
