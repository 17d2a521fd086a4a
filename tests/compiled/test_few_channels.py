import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled.few_channels import conv2d_from_few, product_to_few
from nnunet_fganet.compiled.operators import conv2d_from_few_rows, product_to_few_rows

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-3, torch.float16: 1e-3}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 8)),
    out_channels=st.integers(1, 40),
    kernel=st.sampled_from([1, 3, 5]),
    slope=st.sampled_from([0, 0.01, 1]),
    dtype=DTYPES,
)
def test_convolution_is_that_of_torch_in_double_precision(seed, shape, out_channels, kernel, slope, dtype):
    torch.manual_seed(seed)
    rows, weight = torch.randn(shape), torch.randn(kernel, kernel, shape[3], out_channels)
    bias = torch.randn(out_channels)
    given = rows.permute(0, 3, 1, 2).double(), weight.permute(3, 2, 0, 1).double(), bias.double()
    right = functional.leaky_relu(functional.conv2d(*given, padding=kernel // 2), slope).permute(0, 2, 3, 1)
    found = conv2d_from_few(rows, weight, bias, slope, dtype)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), right, rtol=TOLERANCE[dtype], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    pixels=st.sampled_from([1, 5, 511, 512, 1100]),
    channels=st.integers(1, 70),
    out_channels=st.integers(1, 8),
    dtype=DTYPES,
)
def test_product_is_that_of_torch_in_double_precision(seed, pixels, channels, out_channels, dtype):
    torch.manual_seed(seed)
    rows = torch.randn(pixels, channels).to(dtype)
    weight, bias = torch.randn(out_channels, channels), torch.randn(out_channels)
    right = functional.linear(rows.double(), weight.double(), bias.double())
    torch.testing.assert_close(product_to_few(rows, weight, bias).double(), right, rtol=1e-5, atol=1e-4)


def test_torch_accepts_the_operators():
    torch.library.opcheck(
        conv2d_from_few_rows, (torch.rand(2, 4, 5, 1), torch.rand(3, 3, 1, 20), torch.rand(20), 0.01, torch.float16)
    )
    torch.library.opcheck(product_to_few_rows, (torch.rand(2, 4, 5, 20), torch.rand(2, 20), torch.rand(2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.rand(1, 4, 5, 2).half()}, "rows must be"),
        ({"weight": torch.rand(3, 3, 1, 20)}, "weight must be"),
        ({"bias": torch.rand(21)}, "weight must be"),
    ],
)
def test_what_the_convolution_would_read_outside_is_refused(change, message):
    given = {"rows": torch.rand(1, 4, 5, 2), "weight": torch.rand(3, 3, 2, 20), "bias": torch.rand(20)} | change
    with pytest.raises(ValueError, match=message):
        conv2d_from_few(**given, slope=1.0, dtype=torch.float32)


def test_what_the_product_would_read_outside_is_refused():
    with pytest.raises(ValueError, match="weight must be"):
        product_to_few(torch.rand(4, 20), torch.rand(2, 21), torch.rand(2))
    with pytest.raises(ValueError, match="rows must be"):
        product_to_few(torch.rand(20, 4).t(), torch.rand(2, 20), torch.rand(2))


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_too_large_for_float16_becomes_its_largest_number(sign):
    weight = torch.full((1, 1, 1, 20), sign * 1e5)  # channels in a vector, and some beside
    found = conv2d_from_few(torch.ones(1, 2, 2, 1), weight, torch.zeros(20), 1.0, torch.float16)
    assert (found == sign * 65504).all()
