import pytest
import torch
from torch import nn

from nnunet_fganet.network.norm import InstanceNorm2d, image_norm, instance_norm


@pytest.mark.parametrize("affine", [False, True])
def test_agrees_with_torchs_instance_norm(affine):
    ours, theirs = InstanceNorm2d(4, affine=affine), nn.InstanceNorm2d(4, affine=affine)
    if affine:
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 6, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("batch", [1, 2])
def test_gradient_does_not_depend_on_the_memory_layout_that_arrives(batch):
    x = torch.randn(batch, 8, 6, 5)
    arriving = torch.randn(batch, 8, 6, 5)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = x.clone().requires_grad_()
        InstanceNorm2d(8)(leaf).backward(arriving.contiguous(memory_format=layout))
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_agrees_with_contiguous(batch):
    x = torch.randn(batch, 8, 6, 5)
    arriving = torch.randn(batch, 8, 6, 5)
    for norm in (instance_norm, image_norm):
        found = []
        for layout in (torch.contiguous_format, torch.channels_last):
            leaf = x.clone().contiguous(memory_format=layout).requires_grad_()
            value = norm(leaf)
            value.backward(arriving)
            found.append((value.detach(), leaf.grad))
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_unknown_normalisation_is_named():
    from nnunet_fganet.network.norm import norm_layer

    with pytest.raises(ValueError, match="group"):
        norm_layer("group", 8)
