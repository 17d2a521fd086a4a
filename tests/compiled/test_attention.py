import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled.attention import shift_moments, shift_norm_gelu
from nnunet_fganet.compiled.attention_gradient import shift_norm_gelu_gradient
from nnunet_fganet.compiled.gate import gate, gate_gradients, image_moments
from nnunet_fganet.compiled.operators import gate_rows, shift_norm_gelu_rows
from nnunet_fganet.network.spatial_shift import DIRECTIONS, spatial_shift

STEPS = torch.tensor(DIRECTIONS)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


def tolerance(dtype):
    return {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}


def expected_shift(rows):
    images = rows.permute(0, 3, 1, 2).double()
    return functional.gelu(functional.layer_norm(spatial_shift(images), images.shape[2:])).permute(0, 2, 3, 1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    groups_of=st.sampled_from([1, 2, 3, 8, 9, 16, 18]),
    height=st.integers(1, 9),
    width=st.integers(2, 9),
    dtype=DTYPES,
)
def test_shift_norm_gelu_is_that_of_torch_in_double_precision(seed, batch, groups_of, height, width, dtype):
    torch.manual_seed(seed)
    rows = (3 * torch.randn(batch, height, width, 8 * groups_of) + 2).to(dtype)
    torch.testing.assert_close(shift_norm_gelu(rows, STEPS).double(), expected_shift(rows), **tolerance(dtype))
    halves = shift_norm_gelu(rows, STEPS, dtype=torch.float16)
    assert halves.dtype == torch.float16
    torch.testing.assert_close(halves.double(), expected_shift(rows), **tolerance(torch.float16))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(2, 9), st.integers(1, 40)),
    dtype=DTYPES,
    attention_dtype=DTYPES,
)
def test_gate_is_that_of_torch_in_double_precision(seed, shape, dtype, attention_dtype):
    torch.manual_seed(seed)
    rows, attention = torch.randn(shape).to(dtype), (2 * torch.randn(shape) + 5).to(attention_dtype)
    expected = rows.double() * functional.layer_norm(attention.double(), shape[1:]).sigmoid()
    torch.testing.assert_close(gate(rows, attention).double(), expected, **tolerance(dtype))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    groups_of=st.sampled_from([1, 2, 8, 9, 16]),
    height=st.integers(1, 40),
    width=st.integers(2, 9),
)
def test_gradient_of_shift_norm_gelu_is_that_of_torch_in_double_precision(seed, batch, groups_of, height, width):
    torch.manual_seed(seed)
    rows = (3 * torch.randn(batch, height, width, 8 * groups_of) + 2).requires_grad_()
    gradient = torch.randn(rows.shape)
    (expected,) = torch.autograd.grad(expected_shift(rows), rows, gradient.double())
    given = rows.detach()
    found = shift_norm_gelu_gradient(gradient, given, STEPS, shift_moments(given, STEPS))
    # Of few pixels a channel may have hardly any deviation, so that its gradient is large.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_gradients_of_what_does_not_fit_are_refused():
    rows, moments = torch.randn(1, 4, 5, 16), (torch.zeros(1, 16), torch.ones(1, 16))
    for change in ({"gradient": rows.double()}, {"rows": rows[:, :3]}, {"moments": (moments[0], torch.ones(1, 8))}):
        given = {"gradient": rows, "rows": rows, "steps": STEPS, "moments": moments} | change
        with pytest.raises(ValueError, match="must be"):
            shift_norm_gelu_gradient(**given)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(2, 9), st.integers(1, 40)),
)
def test_gradients_of_the_gate_are_those_of_torch_in_double_precision(seed, shape):
    torch.manual_seed(seed)
    rows, attention, gradient = torch.randn(shape), 2 * torch.randn(shape) + 5, torch.randn(shape)
    moments = image_moments(attention)
    found = gate_gradients(gradient, rows, attention, moments)
    expected = expected_gate_gradients(gradient, rows, attention)
    # Of few numbers an image may have hardly any deviation, which the gradient is divided by.
    bounds = {"rtol": 1e-4, "atol": 1e-5 * max(1.0, float(moments[:, 1].max()))}
    for each, of_torch in zip(found, expected, strict=True):
        torch.testing.assert_close(each.double(), of_torch, **bounds)


@pytest.mark.parametrize("groups_of", [2, 3])
def test_copies_and_gradients_in_bfloat16_are_those_of_float32_rounded(groups_of):
    torch.manual_seed(0)
    rows, attention, gradient = (torch.randn(2, 5, 7, 8 * groups_of) for _ in range(3))
    rounded, moments = torch.empty_like(rows, dtype=torch.bfloat16), image_moments(attention)
    assert torch.equal(gate(rows, attention, moments, rounded).bfloat16(), rounded)
    assert torch.equal(shift_norm_gelu(rows, STEPS, rounded=rounded).bfloat16(), rounded)
    given = gradient.bfloat16(), rows.bfloat16()
    found = gate_gradients(*given, attention, moments)
    expected = gate_gradients(*(each.float() for each in given), attention, moments)
    assert torch.equal(found[0], expected[0].bfloat16()) and torch.equal(found[1], expected[1])
    terms = rows, STEPS, shift_moments(rows, STEPS)
    assert torch.equal(shift_norm_gelu_gradient(given[0], *terms), shift_norm_gelu_gradient(given[0].float(), *terms))
    with pytest.raises(ValueError, match="rounded must be"):
        gate(rows, attention, moments, rows)


def expected_gate_gradients(gradient, rows, attention):
    rows, attention = rows.double().requires_grad_(), attention.double().requires_grad_()
    out = rows * functional.layer_norm(attention, attention.shape[1:]).sigmoid()
    return torch.autograd.grad(out, (rows, attention), gradient.double())


def test_gradients_of_the_gate_that_do_not_fit_are_refused():
    rows = torch.rand(1, 2, 3, 8)
    moments = image_moments(rows)
    with pytest.raises(ValueError, match="gradient must be contiguous"):
        gate_gradients(rows[:, :1], rows, rows, moments)
    with pytest.raises(ValueError, match="attention must be contiguous"):
        gate_gradients(rows, rows, rows.bfloat16(), moments)
    with pytest.raises(ValueError, match="moments must be contiguous"):
        gate_gradients(rows, rows, rows, moments.expand(2, 2))


def test_images_of_many_parts():
    torch.manual_seed(0)
    rows = torch.randn(2, 70, 33, 24)
    attention = torch.randn_like(rows)
    expected = rows.double() * functional.layer_norm(attention.double(), rows.shape[1:]).sigmoid()
    torch.testing.assert_close(gate(rows, attention).double(), expected, **tolerance(torch.float32))
    found = gate_gradients(rows, rows, attention, image_moments(attention))
    for each, of_torch in zip(found, expected_gate_gradients(rows, rows, attention), strict=True):
        torch.testing.assert_close(each.double(), of_torch, **tolerance(torch.float32))
    torch.testing.assert_close(shift_norm_gelu(rows, STEPS).double(), expected_shift(rows), **tolerance(torch.float32))


def test_a_large_mean_does_not_swallow_small_deviations():
    torch.manual_seed(0)
    rows = 1000 + 0.1 * torch.randn(1, 40, 40, 16)
    inside = shift_norm_gelu(rows, STEPS)[:, 1:-1, 1:-1]  # at the border zeros move in, far from all others
    assert inside.std() < 0.1  # because of them
    attention = 1000 + 0.1 * torch.randn(1, 40, 40, 16)
    expected = functional.layer_norm(attention.double(), attention.shape[1:]).sigmoid()
    torch.testing.assert_close(gate(torch.ones_like(rows), attention).double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (1, 2), (40, 70)])
def test_a_far_off_pixel_does_not_swallow_small_deviations(height, width):
    """Where zeros move in beside small values, and the first pixel of the image is none of those."""
    torch.manual_seed(0)
    rows = 1e-2 * torch.randn(2, height, width, 128)
    rows[:, 0, 0] = 1000
    torch.testing.assert_close(shift_norm_gelu(rows, STEPS).double(), expected_shift(rows), **tolerance(torch.float32))
    attention = 1e-2 * torch.randn(1, 40, 40, 16)
    attention[0, 0, 0, 0] = 50
    expected = functional.layer_norm(attention.double(), attention.shape[1:]).sigmoid()
    torch.testing.assert_close(gate(torch.ones_like(attention), attention).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", [0, 2**13, 2**14 - 1], ids=["first", "middle", "last"])
def test_a_far_off_number_of_a_part_does_not_swallow_the_others(place):
    attention = 0.01 * torch.randn(1, 16, 16, 64, generator=torch.Generator().manual_seed(0))
    attention.view(-1)[place] = 100.1
    expected = functional.layer_norm(attention.double(), attention.shape[1:]).sigmoid()
    torch.testing.assert_close(gate(torch.ones_like(attention), attention).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("column", [0, 128, 255], ids=["first", "middle", "last"])
def test_a_far_off_pixel_of_a_row_does_not_swallow_the_others(column):
    rows = 0.01 * torch.randn(1, 256, 256, 8, generator=torch.Generator().manual_seed(0))
    rows[0, 80, column] = 100.1
    _, scale = shift_moments(rows, torch.zeros(1, 2, dtype=torch.int64))
    expected = (rows.double().var((1, 2), correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(scale.double(), expected, rtol=1e-5, atol=0)


def test_numbers_of_other_formats_are_refused():
    rows = torch.rand(1, 2, 3, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="rows must be contiguous"):
        gate(rows, rows.float())
    with pytest.raises(ValueError, match="attention must be contiguous"):
        gate(rows.float(), rows)
    with pytest.raises(ValueError, match="rows must be contiguous"):
        shift_norm_gelu(rows, STEPS)


def test_images_that_the_shift_moves_out_are_zeros():
    assert (shift_norm_gelu(torch.ones(1, 1, 1, 16), STEPS) == 0).all()


def test_nan_stays():
    rows = torch.ones(1, 3, 4, 16)
    rows[0, 1, 2, 5] = torch.nan
    assert shift_norm_gelu(rows, STEPS)[..., 5].isnan().all() and not shift_norm_gelu(rows, STEPS)[..., 4].isnan().any()
    assert gate(torch.ones_like(rows), rows).isnan().all()


def test_results_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match=r"not torch\.float64"):
        shift_norm_gelu(torch.randn(1, 3, 4, 16), STEPS, dtype=torch.float64)


def test_torch_accepts_the_operators():
    rows = torch.randn(2, 3, 4, 16)
    torch.library.opcheck(shift_norm_gelu_rows, (rows, STEPS, torch.float16))
    torch.library.opcheck(gate_rows, (rows, torch.randn_like(rows)))


@pytest.mark.parametrize(
    ("rows", "steps", "message"),
    [
        (torch.rand(1, 4, 3, 8).permute(0, 2, 1, 3), STEPS, "rows must be contiguous"),
        (torch.rand(1, 4, 3, 8), STEPS.int(), "steps must be contiguous torch.int64"),
        (torch.rand(1, 4, 3, 12), STEPS, "12 channels of 4 x 3 pixels cannot be shifted"),
        (torch.rand(1, 4, 3, 8), 4 * STEPS, "cannot be shifted"),
    ],
)
def test_what_the_shift_would_read_outside_is_refused(rows, steps, message):
    with pytest.raises(ValueError, match=message):
        shift_norm_gelu(rows, steps)


def test_gates_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="attention must be contiguous"):
        gate(torch.rand(1, 2, 3, 8), torch.rand(1, 2, 3, 7))
