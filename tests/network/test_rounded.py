"""Images that a training in bfloat16 hands on: rounded, with the exact numbers beside them."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.network.bga import BGA, concatenate
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.conv_block import ConvBlock
from nnunet_fganet.network.pooling import MaxPool2d
from nnunet_fganet.network.rounded import exact, is_rounded
from nnunet_fganet.network.sda import SDA


def image(channels=16, size=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, size, size, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


class Stage(nn.Module):
    """All that computes rounded images, one after the other."""

    def __init__(self):
        super().__init__()
        self.block, self.pool, self.sda = ConvBlock(16, 16, 16, dropout=0), MaxPool2d(), SDA(16, zero_offsets=False)
        self.deep, self.bga, self.head = ConvBlock(16, 16, 16, dropout=0), BGA(16), Conv2d(32, 1, 1)

    def forward(self, x):
        skip = self.block(x)
        deep = self.deep(self.sda(self.pool(skip)))
        return self.head(concatenate(self.bga(skip, deep), deep, self.training))


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


def test_a_stage_computes_with_the_exact_numbers_and_rounds_gradients_alone():
    torch.manual_seed(0)
    stage, x = Stage().train().to(memory_format=torch.channels_last), image()

    def results(in_bfloat16):
        stage.zero_grad()
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            out = stage(given)
        functional.binary_cross_entropy_with_logits(out, (image(1, seed=1) > 0).float()).backward()
        return out.detach(), [given.grad, *(parameter.grad for parameter in stage.parameters())]

    (expected, right), (found, gradients) = results(False), results(True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(gradients, right, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.05 * theirs.norm() + 1e-5


def test_gradients_between_modules_are_in_bfloat16():
    stage, dtypes = Stage().train().to(memory_format=torch.channels_last), []

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
    stage = Stage().train().to(memory_format=torch.channels_last)
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
