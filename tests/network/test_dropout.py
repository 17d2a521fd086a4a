import pytest
import torch

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


def test_gradient_passes_where_values_do():
    x = torch.randn(1, 4, 9, 7, requires_grad=True)
    y = Dropout(0.3).train()(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach() / x.detach())


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
