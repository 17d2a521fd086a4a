import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.compiled.bilateral import gate_and_add, gate_and_add_gradients, join
from nnunet_fganet.compiled.operators import gate_and_add_rows, joined_rows
from nnunet_fganet.compiled.upsampling_gradient import upsampling_gradient
from nnunet_fganet.network.bga import upsample2


def tensors(seed, batch, channels, height, width, dtype=torch.float32, scale=5.0):
    torch.manual_seed(seed)
    fine = torch.randn(batch, channels, 2 * height, 2 * width)
    gate, coarse = scale * torch.randn(2, batch, channels, height, width)
    return [each.to(dtype) for each in (fine, gate, coarse)]


def joined(fine, gate, coarse):
    rows = [each.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format) for each in (fine, gate, coarse)]
    gate_and_add(*rows)
    return rows[0].permute(0, 3, 1, 2)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(1, 40),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_agrees_with_torchs_own_operations_in_double_precision(seed, batch, channels, height, width, dtype):
    fine, gate, coarse = tensors(seed, batch, channels, height, width, dtype)
    expected = fine.double() * upsample2(gate.double()).sigmoid() + upsample2(coarse.double())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(joined(fine, gate, coarse).double(), expected, rtol=tolerance, atol=tolerance)


def rows_of(x):
    return x.permute(0, 2, 3, 1).contiguous()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(1, 40),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_gradients_are_those_of_torchs_own_operations_in_double_precision(seed, batch, channels, height, width):
    fine, gate, _ = tensors(seed, batch, channels, height, width)
    exact, upsampled = fine.double().requires_grad_(), upsample2(gate.double()).requires_grad_()
    gradient = torch.randn(fine.shape)
    expected = torch.autograd.grad(exact * upsampled.sigmoid(), (exact, upsampled), gradient.double())
    found = gate_and_add_gradients(rows_of(gradient), rows_of(fine), rows_of(gate))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), rows_of(theirs), rtol=1e-5, atol=1e-5)


def test_what_is_given_stays_where_something_else_is_written():
    fine, gate, coarse = (rows_of(each) for each in tensors(0, 2, 20, 3, 4))
    before, out = fine.clone(), torch.empty_like(fine)
    gate_and_add(fine, gate, coarse, out)
    assert torch.equal(fine, before)
    gate_and_add(fine, gate, coarse)
    assert torch.equal(fine, out)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_joined_images_are_those_of_torch(seed, batch, channels, height, width, dtype):
    torch.manual_seed(seed)
    fused = torch.randn(batch, 2 * height, 2 * width, channels[0]).to(dtype)
    deep = torch.randn(batch, height, width, channels[1]).to(dtype)
    upsampled = upsample2(deep.permute(0, 3, 1, 2).double()).permute(0, 2, 3, 1)
    found = join(fused, deep)
    assert torch.equal(found[..., : channels[0]], fused)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(found[..., channels[0] :].double(), upsampled, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels", [16, 21])
def test_copies_are_what_is_written_rounded(channels):
    fine, gate, coarse = (rows_of(each) for each in tensors(0, 2, channels, 3, 4))
    out, rounded = torch.empty_like(fine), torch.empty_like(fine, dtype=torch.bfloat16)
    gate_and_add(fine, gate, coarse, out, rounded)
    assert torch.equal(rounded, out.bfloat16())
    rounded = torch.empty(2, 6, 8, 2 * channels, dtype=torch.bfloat16)
    joined_images = join(fine, gate, rounded)
    assert torch.equal(rounded, joined_images.bfloat16())
    with pytest.raises(ValueError, match="rounded must be"):
        join(fine, gate, rounded.half())
    with pytest.raises(ValueError, match="rounded must be"):
        gate_and_add(fine, gate, coarse, out, rounded)


@pytest.mark.parametrize("channels", [16, 21])
def test_gradients_in_bfloat16_are_those_of_float32_rounded(channels):
    fine, gate, _ = (rows_of(each) for each in tensors(0, 2, channels, 3, 4))
    gradient = torch.randn_like(fine).bfloat16()
    found = gate_and_add_gradients(gradient, fine, gate.bfloat16())
    expected = gate_and_add_gradients(gradient.float(), fine, gate.bfloat16().float())
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1].bfloat16())
    assert torch.equal(upsampling_gradient(gradient, 3), upsampling_gradient(gradient.float(), 3).bfloat16())


def test_positions_are_exact_in_large_images():
    fine, gate, coarse = tensors(0, 1, 1, 3, 1000)
    expected = fine.double() * upsample2(gate.double()).sigmoid() + upsample2(coarse.double())
    torch.testing.assert_close(joined(fine, gate, coarse).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value, opened", [(1e4, 1.0), (-1e4, 0.0), (float("inf"), 1.0), (-float("inf"), 0.0)])
def test_gates_open_and_shut(value, opened):
    gate = torch.full((1, 4, 1, 1), value)
    out = joined(torch.full((1, 4, 2, 2), 3.0), gate, torch.zeros(1, 4, 1, 1))
    if abs(value) == float("inf"):
        assert out.isnan().all()  # as torch: interpolation takes a difference of infinities
    else:
        torch.testing.assert_close(out, torch.full((1, 4, 2, 2), 3.0 * opened))


def test_nan_stays():
    assert joined(torch.ones(1, 4, 2, 2), torch.full((1, 4, 1, 1), float("nan")), torch.zeros(1, 4, 1, 1)).isnan().all()


def test_torch_accepts_the_operator():
    rows = [each.permute(0, 2, 3, 1).contiguous() for each in tensors(0, 2, 5, 3, 4)]
    torch.library.opcheck(gate_and_add_rows, tuple(rows))
    torch.library.opcheck(joined_rows, tuple(rows[:2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine": torch.rand(1, 4, 5, 3)}, "fine must be contiguous torch.float32 of shape"),
        ({"fine": torch.rand(1, 3, 6, 4).permute(0, 2, 3, 1)}, "fine must be"),
        ({"gate": torch.rand(1, 2, 3, 3).double()}, "gate must be"),
        ({"coarse": torch.rand(1, 2, 2, 3)}, "coarse must be"),
        ({"out": torch.rand(1, 4, 6, 2)}, "out must be"),
    ],
)
def test_what_the_loop_would_write_outside_is_refused(change, message):
    given = {"fine": torch.rand(1, 4, 6, 3), "gate": torch.rand(1, 2, 3, 3), "coarse": torch.rand(1, 2, 3, 3)}
    with pytest.raises(ValueError, match=message):
        gate_and_add(**(given | change))


@pytest.mark.parametrize("name", ["gradient", "fine", "gate"])
def test_gradients_of_what_does_not_fit_are_refused(name):
    given = {"gradient": torch.rand(1, 4, 6, 3), "fine": torch.rand(1, 4, 6, 3), "gate": torch.rand(1, 2, 3, 3)}
    with pytest.raises(ValueError, match=f"{name} must be contiguous torch.float32"):
        gate_and_add_gradients(**(given | {name: given[name].double()}))


def test_images_that_do_not_fit_are_not_joined():
    with pytest.raises(ValueError, match="fused must be contiguous"):
        join(torch.rand(1, 5, 6, 3), torch.rand(1, 2, 3, 3))
    with pytest.raises(ValueError, match="deep must be contiguous"):
        join(torch.rand(1, 4, 6, 3), torch.rand(1, 3, 2, 3).permute(0, 2, 1, 3))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 2),
    first=st.integers(0, 20),
    channels=st.integers(1, 40),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_gradient_of_upsampling_is_torchs(seed, batch, first, channels, height, width):
    torch.manual_seed(seed)
    gradient = torch.randn(batch, 2 * height, 2 * width, first + channels)
    given = torch.zeros(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    of_upsampled = gradient[..., first:].permute(0, 3, 1, 2).double()
    (expected,) = torch.autograd.grad(upsample2(given), given, of_upsampled)
    found = upsampling_gradient(gradient, first).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


def test_gradients_that_nothing_was_upsampled_to_are_refused():
    with pytest.raises(ValueError, match="gradient must be"):
        upsampling_gradient(torch.rand(1, 4, 5, 3))
    with pytest.raises(ValueError, match="of 3 channels there are none from 3 on"):
        upsampling_gradient(torch.rand(1, 4, 6, 3), 3)
