import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled.depthwise import depthwise_conv2d
from nnunet_fganet.compiled.operators import depthwise_conv2d_rows


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40)),
    kernel=st.sampled_from([1, 3, 5]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_agrees_with_torch_in_double_precision(seed, shape, kernel, dtype):
    torch.manual_seed(seed)
    rows, weight, bias = torch.randn(shape).to(dtype), torch.randn(kernel, kernel, shape[3]), torch.randn(shape[3])
    given = rows.permute(0, 3, 1, 2).double(), weight.permute(2, 0, 1)[:, None].double(), bias.double()
    right = functional.conv2d(*given, padding=kernel // 2, groups=shape[3]).permute(0, 2, 3, 1)
    found = depthwise_conv2d(rows, weight, bias)
    assert found.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 5e-3, torch.float16: 1e-3}[dtype]
    torch.testing.assert_close(found.double(), right, rtol=tolerance, atol=1e-4)


def test_torch_accepts_the_operator():
    torch.library.opcheck(depthwise_conv2d_rows, (torch.rand(2, 4, 5, 20), torch.rand(3, 3, 20), torch.rand(20)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.rand(1, 5, 4, 20).permute(0, 2, 1, 3)}, "rows must be"),
        ({"weight": torch.rand(3, 5, 20)}, "weight must be"),
        ({"bias": torch.rand(20).double()}, "bias must be"),
    ],
)
def test_what_the_loop_would_read_outside_is_refused(change, message):
    given = {"rows": torch.rand(1, 4, 5, 20), "weight": torch.rand(3, 3, 20), "bias": torch.rand(20)} | change
    with pytest.raises(ValueError, match=message):
        depthwise_conv2d(**given)
