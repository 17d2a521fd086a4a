import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_fganet.loss.functional import soft_cldice, soft_dice
from nnunet_fganet.loss.skeleton import soft_skeleton


def reference_skeleton(image, iterations):
    """Soft skeleton with scipy's filters, written after the definition."""

    def erode(x):
        rows = ndimage.minimum_filter(x, size=(3, 1), mode="constant", cval=np.inf)
        columns = ndimage.minimum_filter(x, size=(1, 3), mode="constant", cval=np.inf)
        return np.minimum(rows, columns)

    def opening(x):
        return ndimage.maximum_filter(erode(x), size=3, mode="constant", cval=-np.inf)

    skeleton = np.maximum(image - opening(image), 0)
    for _ in range(iterations):
        image = erode(image)
        delta = np.maximum(image - opening(image), 0)
        skeleton = skeleton + np.maximum(delta - skeleton * delta, 0)
    return skeleton


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), iterations=st.integers(1, 6), height=st.integers(1, 12), width=st.integers(1, 12))
def test_skeleton_agrees_with_scipy(seed, iterations, height, width):
    image = np.random.default_rng(seed).random((height, width))
    actual = soft_skeleton(torch.from_numpy(image)[None, None], iterations)
    np.testing.assert_allclose(actual[0, 0].numpy(), reference_skeleton(image, iterations), atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_skeleton_of_a_straight_wire_is_its_centreline(width):
    image = torch.zeros(1, 1, 21, 31)
    middle = 10
    image[:, :, middle - width // 2 : middle + width // 2 + 1] = 1
    skeleton = soft_skeleton(image, iterations=width)
    assert torch.equal(skeleton[0, 0, middle], torch.ones(31))
    skeleton[0, 0, middle] = 0
    assert skeleton.sum() == 0


def test_iterations_beyond_the_radius_change_nothing():
    image = torch.zeros(1, 1, 32, 32)
    image[:, :, 8:15, 3:29] = 1  # radius 4
    assert torch.equal(soft_skeleton(image, 4), soft_skeleton(image, 10))


@given(shift=st.integers(-4, 4), flip=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_skeleton_moves_and_flips_with_the_image(shift, flip, seed):
    image = torch.zeros(1, 1, 32, 32)
    image[:, :, 10:22, 10:22] = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed))

    def transform(x):
        x = torch.roll(x, shift, dims=3)
        return x.flip(2) if flip else x

    torch.testing.assert_close(soft_skeleton(transform(image), 4), transform(soft_skeleton(image, 4)))


def test_perfect_and_empty_sums():
    one, zero = torch.tensor(100.0), torch.tensor(0.0)
    assert soft_dice(one, one, one) == 1
    assert soft_dice(zero, zero, zero) == 1
    assert soft_cldice(one, one, one, one) == 1
    assert soft_cldice(zero, zero, zero, zero) == 1
    assert soft_dice(zero, one, zero) == pytest.approx(1 / 101)
