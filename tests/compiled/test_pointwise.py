import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled.operators import gate_by_sigmoid_rows, max_pool2_rows
from nnunet_fganet.compiled.pointwise import gate_by_sigmoid, max_pool2

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shape=SHAPES, dtype=DTYPES)
def test_gate_is_that_of_torch(seed, shape, dtype):
    torch.manual_seed(seed)
    values, gate = torch.randn(shape).to(dtype), (5 * torch.randn(shape)).to(dtype)
    expected = values.double() * gate.double().sigmoid()
    gate_by_sigmoid(values, gate)
    tolerance = 1e-6 if dtype == torch.float32 else 5e-3
    torch.testing.assert_close(values.double(), expected, rtol=tolerance, atol=1e-6)


def test_gates_of_many_parts():
    values, gate = torch.randn(3, 50, 40, 17), torch.randn(3, 50, 40, 17)
    expected = values * gate.sigmoid()
    gate_by_sigmoid(values, gate)
    torch.testing.assert_close(values, expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shape=SHAPES, dtype=DTYPES)
def test_pooling_is_that_of_torch(seed, shape, dtype):
    torch.manual_seed(seed)
    batch, height, width, channels = shape
    rows = torch.randn(batch, 2 * height, 2 * width, channels).to(dtype)
    expected = functional.max_pool2d(rows.permute(0, 3, 1, 2).float(), 2).permute(0, 2, 3, 1)
    assert torch.equal(max_pool2(rows).float(), expected)


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_pooling_keeps_nan_and_infinity(channels, place):
    rows = torch.zeros(1, 2, 2, channels)
    rows[0, *place, 1], rows[0, *place, 2], rows[0, *place, 3] = torch.nan, torch.inf, -torch.inf
    out = max_pool2(rows)[0, 0, 0]
    assert out[1].isnan() and out[2] == torch.inf and out[3] == 0 and (out[4:] == 0).all()


def test_torch_accepts_the_operators():
    rows = torch.randn(2, 4, 6, 5)
    torch.library.opcheck(max_pool2_rows, (rows,))
    torch.library.opcheck(gate_by_sigmoid_rows, (rows, torch.randn_like(rows)))


def test_what_the_loops_would_read_outside_is_refused():
    with pytest.raises(ValueError, match="3 x 4 pixels do not divide"):
        max_pool2(torch.rand(1, 3, 4, 2))
    with pytest.raises(ValueError, match="rows must be contiguous"):
        max_pool2(torch.rand(1, 2, 4, 4).permute(0, 1, 3, 2))
    with pytest.raises(ValueError, match="gate must be contiguous"):
        gate_by_sigmoid(torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4).bfloat16())
