import pytest
import torch

from nnunet_fganet.compiled.dropout import drop
from nnunet_fganet.network.dropout import Dropout

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.mark.parametrize("p", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_share_and_mean(p, layout):
    torch.manual_seed(0)
    x = torch.ones(2, 8, 101, 99).contiguous(memory_format=LAYOUTS[layout])
    y = Dropout(p).train()(x)
    assert y.stride() == x.stride()
    entries = x.numel()
    deviation = (p * (1 - p) / entries) ** 0.5
    assert abs(float((y == 0).float().mean()) - p) < 5 * deviation
    assert float(y.mean()) == pytest.approx(1, abs=5 * deviation / (1 - p))
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)


def test_entries_are_independent():
    torch.manual_seed(0)
    kept = (Dropout(0.5).train()(torch.ones(1, 1, 512, 512)) > 0).double().flatten()
    for distance in (1, 2, 3, 4, 512):
        assert abs(float(torch.corrcoef(torch.stack((kept[:-distance], kept[distance:])))[0, 1])) < 5 / 512


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gradient_layout", LAYOUTS)
def test_gradient_passes_where_values_do(layout, gradient_layout):
    x = torch.randn(2, 40, 29, 17).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    y = Dropout(0.3).train()(x)
    given = torch.randn(x.shape).contiguous(memory_format=LAYOUTS[gradient_layout])
    y.backward(given)
    torch.testing.assert_close(x.grad, given * y.detach() / x.detach())


def test_second_gradients():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = Dropout(0.3).train()(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    gradient.sum().backward()
    kept = (y.detach() != 0).float()
    torch.testing.assert_close(x.grad, 2 * kept / 0.7**2, rtol=1e-3, atol=1e-6)


def test_what_comes_out_may_be_written_into():
    """By the LeakyReLU that follows."""
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.nn.functional.leaky_relu_(Dropout(0.3).train()(x), 0.01).sum().backward()
    assert x.grad.isfinite().all()


def test_the_mask_does_not_depend_on_threads():
    x, dropout, results = torch.ones(3, 20, 65, 43), Dropout(0.2).train(), []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(0)
            results.append(dropout(x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_levels_are_equally_likely():
    """Four entries share a number: each in its place, and each part of an image."""
    torch.manual_seed(1)
    kept = (Dropout(0.2).train()(torch.ones(8, 2**15)) > 0).double()
    deviation = (0.2 * 0.8) ** 0.5
    for share in (kept.view(-1, 4).mean(0), kept.mean(1)):
        assert ((share - 0.8).abs() < 5 * deviation / (kept.numel() / len(share)) ** 0.5).all()


def test_masks_of_two_calls_are_independent():
    torch.manual_seed(0)
    dropout, x = Dropout(0.5).train(), torch.ones(2**18)
    pair = torch.stack((dropout(x), dropout(x)))
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / 2**9


def test_numbers_in_another_order_are_refused():
    with pytest.raises(ValueError, match="numbers must be contiguous"):
        drop(torch.rand(3, 4).t(), 0, 100)


def test_same_seed_same_mask():
    x, dropout = torch.ones(1, 1, 8, 8), Dropout(0.5).train()
    torch.manual_seed(3)
    first = dropout(x)
    second = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    assert Dropout(0.2).train()(torch.ones(3, 3, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("p, expected", [(0.0, 1.0), (1.0, 0.0)])
def test_all_or_nothing(p, expected):
    assert Dropout(p).train()(torch.ones(4, 4)).unique().tolist() == [expected]


def test_evaluation_changes_nothing():
    x = torch.randn(3, 3)
    assert Dropout(0.5).eval()(x) is x
