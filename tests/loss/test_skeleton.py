import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_fganet.compiled.skeleton import skeleton_gradient
from nnunet_fganet.loss.skeleton import pooled_skeleton, skeletons_together, soft_skeleton

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
    image = torch.rand(1, 1, 24, 24)
    image[0, 0, 0, 0] = value
    given = image, 3, torch.ones_like(image)
    near = 2 * (3 + 2)  # a pixel reaches the others by erosions and a dilation, and gradients come back the same way
    for ours, expected in zip(
        value_and_gradient(soft_skeleton, *given), value_and_gradient(pooled_skeleton, *given), strict=True
    ):
        torch.testing.assert_close(ours[..., near:, near:], expected[..., near:, near:])


def test_more_threads_than_images_and_fewer(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for batch in (1, 3, 6):
        given = torch.rand(batch, 2, 17, 12), 3, torch.rand(batch, 2, 17, 12)
        for ours, expected in zip(
            value_and_gradient(soft_skeleton, *given), value_and_gradient(pooled_skeleton, *given), strict=True
        ):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.rand(1, 1, 8, 8).double()}, "x must be contiguous torch.float32"),
        ({"x": torch.rand(1, 1, 8, 8).transpose(2, 3)}, "x must be"),
        ({"gradient": torch.ones(()).expand(1, 1, 8, 8)}, "gradient must be"),
        ({"gradient": torch.rand(1, 1, 8, 7)}, "gradient must be"),
        ({"iterations": -1}, "at least 0, not -1"),
        ({"iterations": 3.0}, "an integer"),
    ],
)
def test_what_the_loops_would_write_outside_is_refused(change, message):
    given = {"x": torch.rand(1, 1, 8, 8), "iterations": 3, "gradient": torch.rand(1, 1, 8, 8)}
    with pytest.raises(ValueError, match=message):
        skeleton_gradient(**(given | change))


def test_tensors_without_memory_are_torchs():
    with FakeTensorMode():
        x = torch.rand(1, 1, 9, 9, requires_grad=True)
        soft_skeleton(x, 2).sum().backward()
    assert x.grad.shape == x.shape


def test_double_precision_gradient_against_finite_differences():
    image = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: soft_skeleton(x, 2), image)


def test_skeletons_of_several_maps_do_not_depend_on_each_other():
    """On GPUs they are computed as one batch."""
    results = []
    for compute in (skeletons_together, lambda maps, n: [pooled_skeleton(each, n) for each in maps]):
        torch.manual_seed(0)
        maps = [torch.rand(2, 3, 9, 8, requires_grad=True) for _ in range(4)]
        skeletons = compute(maps, 5)
        gradients = torch.autograd.grad(sum(k * each.square().sum() for k, each in enumerate(skeletons, 1)), maps)
        results.append([*skeletons, *gradients])
    torch.testing.assert_close(*results)
