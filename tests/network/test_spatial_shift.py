import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_fganet.network.spatial_shift import DIRECTIONS, spatial_shift


@given(step=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9), per_group=st.integers(1, 2))
def test_every_pixel_comes_from_where_the_direction_says(step, height, width, per_group):
    x = torch.rand(1, per_group * len(DIRECTIONS), height, width)
    shifted = spatial_shift(x, step)
    for group, (rows, columns) in enumerate(DIRECTIONS):
        for i in range(height):
            for j in range(width):
                source = (i + step * rows, j + step * columns)
                inside = 0 <= source[0] < height and 0 <= source[1] < width
                channels = slice(group * per_group, (group + 1) * per_group)
                expected = x[0, channels, source[0], source[1]] if inside else torch.zeros(per_group)
                assert torch.equal(shifted[0, channels, i, j], expected)


def test_unequal_groups_are_refused():
    with pytest.raises(ValueError, match="12 channels"):
        spatial_shift(torch.zeros(1, 12, 4, 4))


@pytest.mark.parametrize("step", [1, 2])
def test_gradients_move_back(step):
    x = torch.rand(2, 8, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: spatial_shift(image, step), x)
    assert torch.autograd.gradgradcheck(lambda image: spatial_shift(image, step).square(), x)
