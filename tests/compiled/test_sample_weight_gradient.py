"""The gradient of a deformable convolution's weights by matrix units, against a product in double precision."""

import pytest
import torch

from nnunet_fganet.compiled import sample_weight_gradient as module
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.operators import sampled_columns
from nnunet_fganet.compiled.sample_weight_gradient import multiplies_gradients, sample_weight_gradient

needs_units = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for bfloat16 (AMX)")


def case(channels, out_channels, batch, height, width, modulated, scale=3.0):
    torch.manual_seed(0)
    pixels = batch * height * width
    rows, offset = torch.randn(pixels, channels).bfloat16(), scale * torch.randn(pixels, 9, 2)
    mask = torch.rand(pixels, 9) if modulated else None
    return (rows, offset, mask, (height, width)), torch.randn(pixels, out_channels).bfloat16()


@needs_units
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(
    "channels, out_channels, size",
    [(32, 64, (1, 5, 7)), (96, 32, (2, 9, 4)), (64, 64, (3, 20, 19)), (320, 32, (1, 16, 33)), (32, 32, (1, 1, 1))],
)
def test_is_the_product_over_all_pixels(channels, out_channels, size, modulated):
    given, gradient = case(channels, out_channels, *size, modulated)
    samples = sampled_columns(*given[:3], *given[3]).flatten(1).double()
    expected = gradient.double().t() @ samples
    found = sample_weight_gradient(*given, gradient)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    # A sample may be rounded to the other side.
    assert (found - expected).abs().max() <= 1e-4 * (gradient.double().abs().t() @ samples.abs()).max()


@needs_units
def test_results_do_not_depend_on_threads():
    given, gradient = case(64, 32, 2, 9, 11, True)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(sample_weight_gradient(*given, gradient))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@needs_units
def test_offsets_far_outside_read_zeros_and_nan_gives_nan():
    (rows, offset, _, size), gradient = case(32, 32, 1, 6, 6, False)
    offset[:, 4], offset[:, 5] = 1e30, torch.inf
    offset[7, 2, 1] = torch.nan
    found = sample_weight_gradient(rows, offset, None, size, gradient).view(32, 9, 32)
    assert (found[:, 4:6] == 0).all() and found[:, 2].isnan().all()
    assert found[:, [0, 1, 3, 6, 7, 8]].isfinite().all()


@needs_units
def test_refuses_what_it_cannot_read():
    (rows, offset, _, size), gradient = case(32, 32, 1, 4, 5, False)
    with pytest.raises(ValueError, match="no multiples of 32"):
        sample_weight_gradient(rows[:, :16].contiguous(), offset, None, size, gradient)
    with pytest.raises(ValueError, match="rows must be one of"):
        sample_weight_gradient(rows.float(), offset, None, size, gradient)
    with pytest.raises(ValueError, match="gradient must be contiguous"):
        sample_weight_gradient(rows, offset, None, size, gradient.float())
    with pytest.raises(ValueError, match="no images"):
        sample_weight_gradient(rows, offset, None, (4, 6), gradient)


def test_without_units_another_way_is_taken(monkeypatch):
    monkeypatch.setattr(module, "has_matrix_units", lambda: False)
    assert not multiplies_gradients(32, 32)
    given, gradient = case(32, 32, 1, 4, 5, False)
    with pytest.raises(ValueError, match="no matrix units"):
        sample_weight_gradient(*given, gradient)
