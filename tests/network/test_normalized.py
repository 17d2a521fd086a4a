"""Convolutions with what follows them, against the same modules one by one."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nnunet_fganet.network import normalized
from nnunet_fganet.network.bga import BGA, concatenate, upsample2
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.conv_block import ConvBlock
from nnunet_fganet.network.dropout import Dropout
from nnunet_fganet.network.normalized import NormalizedConvolutions
from nnunet_fganet.network.pooling import MaxPool2d
from nnunet_fganet.network.rounded import exact
from nnunet_fganet.network.sda import SDA


def conv(channels, out_channels, kernel=3, **others):
    return Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=False, **others)


SEQUENCES = {
    "block": lambda: ConvBlock(5, 18, 21, dropout=0.3),
    "block without dropout": lambda: ConvBlock(5, 18, 21, dropout=0.0),
    "BatchNorm alone": lambda: NormalizedConvolutions(conv(5, 18, stride=2), nn.BatchNorm2d(18)),
    "ReLU": lambda: NormalizedConvolutions(conv(5, 18, 1), nn.BatchNorm2d(18), nn.ReLU(inplace=True)),
    "separable": lambda: NormalizedConvolutions(conv(5, 5, groups=5), nn.BatchNorm2d(5), conv(5, 20, 1)),
    "between others": lambda: NormalizedConvolutions(
        nn.AvgPool2d(2), conv(5, 18), nn.BatchNorm2d(18), nn.LeakyReLU(0.2), MaxPool2d(), conv(18, 3)
    ),
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture
def calls(monkeypatch):
    """How many steps were computed together, call by call."""
    counts, apply = [], normalized._Normalized.apply
    monkeypatch.setattr(
        normalized._Normalized,
        "apply",
        lambda x, numbers, steps, *rest: counts.append(len(steps)) or apply(x, numbers, steps, *rest),
    )
    return counts


def make(name, seed=0):
    torch.manual_seed(seed)
    sequence = SEQUENCES[name]().train()
    for module in sequence:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return sequence


def computed(sequence, x, forward=NormalizedConvolutions.forward, in_bfloat16=False):
    """Output, gradients of image and parameters, and what the BatchNorms keep, of a copy."""
    sequence, x = copy.deepcopy(sequence), x.detach().clone().requires_grad_()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        out = forward(sequence, x)
    out.float().backward(torch.randn(out.shape))
    kept = [buffer for name, buffer in sequence.named_buffers()]
    return [exact(out).detach(), *kept], [x.grad, *(parameter.grad for parameter in sequence.parameters())]


def assert_near(found, expected, error):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert (ours - theirs).abs().max() <= error * theirs.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SEQUENCES)
def test_float32_agrees_with_the_modules_one_by_one(name, layout, calls):
    sequence = make(name).to(memory_format=LAYOUTS[layout])
    x = torch.randn(2, 5, 14, 18).contiguous(memory_format=torch.channels_last)  # so that dropout counts alike
    found, expected = computed(sequence, x), computed(sequence, x, nn.Sequential.forward)
    assert calls == [2 if name.startswith("block") else 1]
    assert_near(found[0], expected[0], 1e-5)
    assert_near(found[1], expected[1], 1e-4)


@pytest.mark.parametrize("name", SEQUENCES)
def test_bfloat16_rounds_gradients_only(name, calls):
    sequence, x = make(name), torch.randn(2, 5, 14, 18).contiguous(memory_format=torch.channels_last)
    found = computed(sequence, x, in_bfloat16=True)
    expected = computed(sequence, x, nn.Sequential.forward)
    assert len(calls) == 1
    assert_near(found[0], expected[0], 1e-5)
    for ours, right in zip(found[1], expected[1], strict=True):
        assert ours.dtype == torch.float32 and (ours - right).norm() < 2e-2 * right.norm()


def one_by_one(change):
    """A block of which ``change`` makes something that is not computed together."""
    block = make("block")
    change(block)
    return block


OTHERS = {
    "a hook": lambda block: block[1].register_forward_hook(lambda *given: None),
    "a hook of gradients": lambda block: block[0].register_full_backward_hook(lambda *given: None),
    "fixed statistics": lambda block: block[1].eval(),
    "no statistics": lambda block: setattr(block[1], "track_running_stats", False),
    "mean of all statistics": lambda block: setattr(block[1], "momentum", None),
    "double precision": lambda block: block[1].double(),
    "all dropped": lambda block: setattr(block[2], "p", 1.0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_rest_is_computed_one_by_one(name, calls):
    block, x = one_by_one(OTHERS[name]), torch.randn(2, 5, 14, 18).contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError) if name == "double precision" else nullcontext():
        found, expected = computed(block, x), computed(block, x, nn.Sequential.forward)
        assert_near(found[0], expected[0], 1e-5)
        assert_near(found[1], expected[1], 1e-4)
    assert calls == ([] if name == "double precision" else [1])  # the second half of the block


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_predictions_and_other_norms_are_computed_one_by_one(norm, calls):
    block, x = ConvBlock(5, 18, 21, norm).train(norm == "instance"), torch.randn(2, 5, 14, 18)
    torch.manual_seed(0)
    found = block(x)
    torch.manual_seed(0)
    assert torch.equal(found, nn.Sequential.forward(block, x)) and not calls


def test_parameters_that_do_not_train_have_no_gradient(calls):
    block, x = make("block"), torch.randn(2, 5, 14, 18)
    block[0].weight.requires_grad_(False)
    block[4].weight.requires_grad_(False)
    block(x).sum().backward()
    assert calls == [2]
    assert [parameter.grad is not None for parameter in block.parameters()] == [False, True, True, False, True, True]


def test_nothing_is_kept_where_no_gradient_is_wanted():
    with torch.no_grad():
        assert not make("block")(torch.randn(2, 5, 14, 18)).requires_grad


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_computes_the_same_again(reentrant):
    block, x = make("block"), torch.randn(2, 5, 14, 18)
    expected = computed(block, x)

    def forward(sequence, image):
        return checkpoint(sequence, image, use_reentrant=reentrant)

    found = computed(block, x, forward)
    assert torch.equal(found[0][0], expected[0][0])
    assert all(map(torch.equal, found[1], expected[1]))


def test_second_gradients_are_refused():
    block, x = make("block"), torch.randn(2, 5, 14, 18, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_one_pixel_has_no_deviation():
    with pytest.raises(ValueError, match="more than one pixel"):
        make("block")(torch.randn(1, 5, 1, 1))


def test_what_comes_out_may_be_written_into():
    block, x = make("block"), torch.randn(2, 5, 14, 18)
    block(x).mul_(2).sum().backward()
    assert block[0].weight.grad.isfinite().all()


def test_gradients_of_a_training_in_bfloat16_stay_in_it(monkeypatch):
    dtypes, gradients = [], normalized.normalize_gradients
    monkeypatch.setattr(
        normalized,
        "normalize_gradients",
        lambda gradient, *rest: dtypes.append(gradient.dtype) or gradients(gradient, *rest),
    )
    block, x = make("block"), torch.randn(2, 5, 14, 18)
    with torch.autocast("cpu", torch.bfloat16):
        block(x).sum().backward()
    assert dtypes == [torch.bfloat16, torch.bfloat16]


def test_dropout_is_drawn_anew_in_each_call():
    torch.manual_seed(0)
    block, x = NormalizedConvolutions(conv(5, 18), nn.BatchNorm2d(18), Dropout(0.5)).train(), torch.randn(2, 5, 14, 18)
    first, second = (block(x) == 0 for _ in range(2))
    assert 0.4 < first.float().mean() < 0.6 and 0.4 < (first ^ second).float().mean() < 0.6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bga_of_a_training_agrees_with_its_formula(layout):
    torch.manual_seed(0)
    bga = BGA(20).train()
    low, high = torch.randn(2, 20, 12, 16), torch.randn(2, 20, 6, 8)

    def results(joined):
        given = [
            each.contiguous(memory_format=LAYOUTS[layout]).requires_grad_() for each in (low.clone(), high.clone())
        ]
        one = copy.deepcopy(bga)
        fine, coarse = (
            (one.low_fine(given[0]), one.low_coarse(given[0])),
            (one.high_fine(given[1]), one.high_coarse(given[1])),
        )
        out = joined(one, *fine, *coarse)
        torch.manual_seed(1)
        return out.detach(), *torch.autograd.grad(out, given, torch.randn(out.shape))

    found = results(BGA._joined)
    expected = results(
        lambda _, fine, coarse, gate, coarse_gate: (
            fine * upsample2(gate).sigmoid() + upsample2(coarse * coarse_gate.sigmoid())
        )
    )
    assert_near(found, expected, 1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [(20, 20), (16, 35)])
def test_concatenation_of_a_training_is_torchs(layout, channels):
    torch.manual_seed(0)
    images = torch.randn(2, channels[0], 12, 16), torch.randn(2, channels[1], 6, 8)
    given = [each.contiguous(memory_format=LAYOUTS[layout]).requires_grad_() for each in images]
    out_gradient = torch.randn(2, sum(channels), 12, 16)

    def results(training):
        out = concatenate(*given, training)
        assert (type(out.grad_fn).__name__ == "_ConcatenatedBackward") == (training and layout == "channels_last")
        return out.detach(), *torch.autograd.grad(out, given, out_gradient)

    assert_near(results(True), results(False), 1e-6)


def test_shift_of_a_trainings_sda_is_torchs():
    torch.manual_seed(0)
    sda = SDA(32)
    x = torch.randn(2, 32, 12, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    out_gradient = torch.randn(x.shape)

    def results(training):
        out = sda.train(training)._shifted(x)
        assert (type(out.grad_fn).__name__ == "_ShiftedBackward") == training
        return out.detach(), *torch.autograd.grad(out, x, out_gradient)

    assert_near(results(True), results(False), 1e-4)


def test_gate_of_a_trainings_sda_is_torchs():
    torch.manual_seed(0)
    sda = SDA(32)
    x, deformed = (torch.randn(2, 32, 12, 16).contiguous(memory_format=torch.channels_last) for _ in range(2))
    given = x.requires_grad_(), deformed.requires_grad_()
    out_gradient = torch.randn(x.shape)

    def results(training):
        out = sda.train(training)._gated(*given)
        assert (type(out.grad_fn).__name__ == "_GatedBackward") == training
        return out.detach(), *torch.autograd.grad(out, given, out_gradient)

    assert_near(results(True), results(False), 1e-4)
