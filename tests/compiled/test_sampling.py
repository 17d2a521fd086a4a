"""Compiled samples against torch's ``embedding_bag``; against torchvision see tests/network/test_deform_conv.py."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from nnunet_fganet.compiled.half import narrow, widen
from nnunet_fganet.compiled.operators import deform_conv2d_rows, sampled_columns
from nnunet_fganet.compiled.sampling import sample_columns, sample_gradients
from nnunet_fganet.network.deform_gather import channel_rows, positions, sampled_rows, weighted_rows


def case(seed, batch, channels, height, width, dtype=torch.float32, modulated=True):
    torch.manual_seed(seed)
    x = torch.randn(batch, channels, height, width).to(dtype)
    offset = 3 * torch.randn(batch, 18, height, width)
    return x, offset, torch.rand(batch, 9, height, width) if modulated else None


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(1, 150),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    modulated=st.booleans(),
)
def test_samples_and_their_gradients_agree_with_embedding_bag(seed, batch, channels, height, width, dtype, modulated):
    x, offset, mask = case(seed, batch, channels, height, width, dtype, modulated)
    leaves = [each.requires_grad_() for each in (x, offset, mask) if each is not None]
    columns = sampled_columns(channel_rows(x), *positions(offset, mask), height, width)
    given_gradient = torch.randn(columns.shape).to(dtype)
    gradients = torch.autograd.grad(columns, leaves, given_gradient)
    # The reference in float32: embedding_bag rounds the shares to bfloat16 before it multiplies.
    expected = weighted_rows(channel_rows(x.float()), *sampled_rows(offset, mask, 3)).view(columns.shape)
    expected_gradients = torch.autograd.grad(expected, leaves, given_gradient.float())
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(columns.float(), expected, rtol=tolerance, atol=tolerance)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert (gradient - other).norm() <= tolerance * (1 + other.norm())


def test_torch_accepts_the_operators():
    x, offset, mask = case(0, 2, 5, 4, 6)
    rows, (offset, mask) = channel_rows(x), positions(offset, mask)
    leaves = [each.clone().requires_grad_() for each in (rows, offset, mask)]
    torch.library.opcheck(sampled_columns, (*leaves, 4, 6))
    torch.library.opcheck(deform_conv2d_rows, (rows, offset, mask, 4, 6, torch.randn(3, 45), torch.randn(3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_rounded_as_torch_rounds_them(dtype):
    bits = {torch.float32: np.float32, torch.bfloat16: np.uint16}[dtype]
    values = torch.cat([torch.randn(4096) * 10 ** torch.randint(-30, 30, (4096,)), torch.tensor([0.0, -0.0, 1e39])])
    values = torch.cat([values, torch.tensor([float("inf"), -float("inf"), float("nan"), 1.00390625, 1.01171875])])

    @njit
    def convert(numbers, out):
        for i in range(numbers.size):
            out[i] = narrow(numbers[i], out[i])
            numbers[i] = widen(out[i])

    widened, out = values.numpy().copy(), np.zeros(len(values), bits)
    convert(widened, out)
    torch.testing.assert_close(torch.from_numpy(widened), values.to(dtype).float(), rtol=0, atol=0, equal_nan=True)


def test_no_index_leads_outside_the_arrays():
    """Numba checks every index here; a compiled loop prints what it cannot raise."""
    program = """
import torch
from nnunet_fganet.network.deform_conv import deform_conv2d
from nnunet_fganet.compiled.attention import shift_moments, shift_norm_gelu
from nnunet_fganet.compiled.attention_gradient import shift_norm_gelu_gradient
from nnunet_fganet.compiled.bfloat16_conv import bfloat16_conv2d, bfloat16_weight
from nnunet_fganet.compiled.bilateral import gate_and_add, gate_and_add_gradients, join
from nnunet_fganet.compiled.depthwise import depthwise_conv2d
from nnunet_fganet.compiled.dropout import drop
from nnunet_fganet.compiled.few_channels import conv2d_from_few
from nnunet_fganet.compiled.fixed_point import fixed_point_conv2d
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.gate import gate, gate_gradients, image_moments
from nnunet_fganet.compiled.matrix_units import has_matrix_units, tiles_of
from nnunet_fganet.compiled.sample_fixed_point import multiply_sample_integers
from nnunet_fganet.compiled.sample_products import multiply_samples
from nnunet_fganet.compiled.sample_weight_gradient import sample_weight_gradient
from nnunet_fganet.compiled.sampling import sample_levels
from nnunet_fganet.network.deform_gather import channel_rows, positions
from nnunet_fganet.network.spatial_shift import DIRECTIONS
from nnunet_fganet.compiled.skeleton import skeleton_gradient, skeletonize
from nnunet_fganet.compiled import winograd
from nnunet_fganet.compiled.upsampling_gradient import upsampling_gradient
from nnunet_fganet.compiled.winograd import transformed_weight, winograd_conv2d
from nnunet_fganet.compiled.winograd_gradient import winograd_weight_gradient
winograd._FEW_TILES = 5
torch.manual_seed(0)
for scale in (0, 1, 1e3, 1e9, 1e30, float("inf"), float("nan")):
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    offset = (torch.randn(2, 18, 5, 7) * scale).requires_grad_()
    deform_conv2d(x, offset, torch.randn(4, 3, 3, 3), mask=torch.rand(2, 9, 5, 7)).sum().backward()
    wide = torch.randn(2, 150, 5, 7, requires_grad=True)
    deform_conv2d(wide, offset, torch.randn(4, 150, 3, 3), mask=torch.rand(2, 9, 5, 7)).sum().backward()
    places = positions(offset.detach(), None)
    sample_levels(channel_rows(wide.detach()), *places, (5, 7), 10, 0.1, 128, torch.empty(60, 9, 150).byte())
    if has_matrix_units():
        some, terms, weight = channel_rows(wide.detach())[:, :64], torch.rand(2, 40), torch.rand(40, 576)
        for mask in (None, torch.rand(70, 9)):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                given = some.to(dtype).contiguous(), places[0], mask, (5, 7), (10, 70)
                out = torch.empty(70, 40, dtype=dtype)
                multiply_samples(*given, 0.1, 128, tiles_of(weight.to(torch.int8)), *terms, out)
                multiply_samples(*given, 1.0, 0, tiles_of(weight.bfloat16()), *terms, out)
            tiles = fixed_point_weight(torch.rand(20, 576, 1, 1))
            multiply_sample_integers(some.contiguous(), places[0], mask, (5, 7), *tiles, torch.rand(20))
            given = some.bfloat16().contiguous(), places[0], mask, (5, 7)
            sample_weight_gradient(*given, torch.rand(70, 96).bfloat16())
for size in (1, 2, 3, 4, 5, 9):
    rows, weight = torch.randn(2 * size * (size + 1), 18), transformed_weight(torch.randn(20, 18, 3, 3))
    winograd_conv2d(rows, size, size + 1, weight, torch.zeros(20), 0.0)
    winograd_weight_gradient(rows, torch.randn(len(rows), 20), size, size + 1)
    image = torch.rand(2, 1, size, size + 1)
    skeletonize(image, 3), skeleton_gradient(image, 3, torch.rand(image.shape))
    few_rows, many = torch.rand(2, size, size + 1, 3), torch.rand(2, size, size + 1, 40)
    conv2d_from_few(few_rows, torch.rand(3, 3, 3, 20), torch.rand(20), 0.01, torch.float16)
    depthwise_conv2d(many, torch.rand(3, 3, 40), torch.rand(40))
    fixed_point_weight(torch.rand(size, 7 * size, 3, 3)), drop(many, size, 2**14)
    steps = torch.tensor(DIRECTIONS)
    rounded, moments = many.bfloat16(), image_moments(many)
    shift_norm_gelu(many, steps), shift_norm_gelu(many, steps, dtype=torch.float16), gate(many, many)
    shift_norm_gelu(many, steps, rounded=rounded), gate(many, many, moments, rounded)
    gate_gradients(many, many, many, moments), gate_gradients(rounded, rounded, many, moments)
    for channels in (40, 72):
        some = torch.rand(2, size, size + 1, channels)
        shift_norm_gelu_gradient(some, some, steps, shift_moments(some, steps))
        shift_norm_gelu_gradient(some.bfloat16(), some, steps, shift_moments(some, steps))
    for stride in (1, 2):
        for out_channels in (1, 16, 35) if has_matrix_units() else ():
            tiles = fixed_point_weight(torch.rand(out_channels, 40, 3, 3))
            terms = bfloat16_weight(torch.rand(out_channels, 40, 3, 3)), torch.rand(out_channels), 3, stride, 0.01
            bfloat16_conv2d(many.bfloat16(), *terms), bfloat16_conv2d(many.half(), *terms)
            for given in (many, many.half()):
                terms = *tiles, torch.rand(out_channels), stride, 0.01, torch.float16
                fixed_point_conv2d(given, *terms)
                twice = torch.rand(2, 2 * size, 2 * size + 2, 40).to(given.dtype)
                fixed_point_conv2d(twice, *terms, [given, given])
                fixed_point_conv2d(twice[..., :20].contiguous(), *terms, [given[..., 20:].contiguous()])
    twice, halves = torch.rand(2, 2 * size, 2 * size + 2, 35), torch.rand(2, 2, size, size + 1, 35)
    upsampling_gradient(twice, 3), upsampling_gradient(twice.bfloat16(), 3)
    join(twice[..., :20].contiguous(), halves[0], torch.empty(2, 2 * size, 2 * size + 2, 55).bfloat16())
    gate_and_add(twice, *halves, rounded=twice.bfloat16())
    gate_and_add_gradients(twice, twice, halves[0])
    gate_and_add_gradients(twice.bfloat16(), twice, halves[0].bfloat16())
"""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr and not done.stdout, done.stdout + done.stderr


def test_samples_of_some_pixels_are_those_of_all():
    x, offset, mask = case(0, 2, 6, 5, 7)
    rows, (offset, mask) = channel_rows(x), positions(offset, mask)
    every = sampled_columns(rows, offset, mask, 5, 7)
    some = torch.empty(20, 9, 6)
    sample_columns(rows, offset, mask, (5, 7), 30, some)
    assert torch.equal(some, every[30:50])


def test_samples_in_float16_have_no_gradients():
    x, offset, mask = case(0, 2, 20, 5, 7)
    rows, (offset, mask) = channel_rows(x), positions(offset, mask)
    columns = torch.empty(70, 9, 20).half()
    sample_columns(rows.half(), offset, mask, (5, 7), 0, columns)
    exact = sampled_columns(rows.half().float(), offset, mask, 5, 7)
    torch.testing.assert_close(columns.float(), exact, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="rows must be one of"):
        sample_gradients(rows.half(), offset, mask, (5, 7), columns)


def test_no_image_has_no_gradients():
    x, offset, mask = case(0, 0, 5, 4, 6)
    leaves = [each.requires_grad_() for each in (x, offset, mask)]
    columns = sampled_columns(channel_rows(x), *positions(offset, mask), 4, 6)
    assert [each.shape for each in torch.autograd.grad(columns.sum(), leaves)] == [each.shape for each in leaves]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.randn(30, 4).double()}, "rows must be one of"),
        ({"rows": torch.randn(4, 30).t()}, "rows must be contiguous"),
        ({"rows": torch.randn(31, 4)}, "31 rows are no images of 5 x 6 pixels"),
        ({"offset": torch.randn(30, 9, 2).double()}, "offset must be contiguous torch.float32"),
        ({"offset": torch.randn(30, 9, 1)}, "offset must be"),
        ({"mask": torch.randn(30, 8)}, "mask must be"),
        ({"columns": torch.empty(30, 9, 3)}, "columns must be"),
        ({"columns": torch.empty(30, 9, 4).bfloat16()}, "columns must be"),
        ({"columns": torch.empty(30, 8, 4), "offset": torch.randn(30, 8, 2)}, "no square kernel"),
        ({"first": 1}, "outside of 30 rows"),
    ],
)
def test_what_the_loops_would_read_outside_is_refused(change, message):
    given = {"rows": torch.randn(30, 4), "offset": torch.randn(30, 9, 2), "mask": torch.rand(30, 9), "size": (5, 6)}
    with pytest.raises(ValueError, match=message):
        sample_columns(**(given | {"first": 0, "columns": torch.empty(30, 9, 4)} | change))
