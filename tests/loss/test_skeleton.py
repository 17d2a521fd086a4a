import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.loss.skeleton import pooled_skeleton, soft_skeleton

SHAPES = [(1, 1, 1, 1), (1, 1, 1, 7), (1, 2, 5, 1), (2, 1, 2, 2), (3, 2, 17, 12)]
IMAGES = {
    "noise": lambda shape: torch.rand(shape),
    "steps": lambda shape: torch.randint(0, 4, shape) / 4,  # many pixels hold the same minimum
    "binary": lambda shape: (torch.rand(shape) > 0.3).float(),
    "empty": torch.zeros,
    "full": torch.ones,
}


def value_and_gradient(skeleton, image, iterations, upstream):
    image = image.clone().requires_grad_()
    value = skeleton(image, iterations)
    value.backward(upstream)
    return value.detach(), image.grad


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(sorted(IMAGES)),
    iterations=st.integers(0, 6),
)
def test_compiled_loops_agree_with_pooling(seed, shape, kind, iterations):
    torch.manual_seed(seed)
    image, upstream = IMAGES[kind](shape), torch.randn(shape)
    value, gradient = value_and_gradient(soft_skeleton, image, iterations, upstream)
    expected, expected_gradient = value_and_gradient(pooled_skeleton, image, iterations, upstream)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["transposed", "sliced", "channels_last"])
def test_any_memory_layout(layout):
    image = {
        "transposed": torch.rand(2, 3, 9, 8).transpose(2, 3),
        "sliced": torch.rand(2, 3, 16, 9)[:, :, ::2],
        "channels_last": torch.rand(2, 3, 8, 9).contiguous(memory_format=torch.channels_last),
    }[layout]
    upstream = torch.rand(2, 3, 8, 9).transpose(0, 1).contiguous().transpose(0, 1)
    for ours, expected in zip(
        value_and_gradient(soft_skeleton, image, 3, upstream),
        value_and_gradient(pooled_skeleton, image, 3, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


def test_neither_input_nor_upstream_gradient_is_written_to():
    image, upstream = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)
    before = image.clone(), upstream.clone()
    value_and_gradient(soft_skeleton, image, 3, upstream)
    assert torch.equal(image, before[0]) and torch.equal(upstream, before[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_do_no_harm(value):
    image = torch.rand(1, 1, 8, 8)
    image[0, 0, 0, 0] = value
    _, gradient = value_and_gradient(soft_skeleton, image, 3, torch.ones_like(image))
    assert gradient.shape == image.shape


def test_double_precision_gradient_against_finite_differences():
    image = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: soft_skeleton(x, 2), image)
