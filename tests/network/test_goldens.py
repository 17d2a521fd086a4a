import numpy as np
import pytest
import torch
from golden import load

from nnunet_fganet.network.bga import BGA
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.released import convert_released_state_dict
from nnunet_fganet.network.sda import SDA
from nnunet_fganet.network.spatial_shift import spatial_shift

TOLERANCE = 1e-4


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected.numpy(), rtol=0, atol=TOLERANCE)


def test_spatial_shift():
    arrays, _ = load("spatial_shift")
    torch.testing.assert_close(spatial_shift(arrays["input"]), arrays["output"], rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["gather", "torchvision"])
def test_sda(backend):
    arrays, parameters = load("sda")
    sda = SDA(16, backend=backend).eval()
    sda.load_state_dict(convert_released_state_dict(parameters))
    assert_close(sda(arrays["input"]), arrays["output"])


def test_bga():
    arrays, parameters = load("bga")
    bga = BGA(16).eval()
    bga.load_state_dict(convert_released_state_dict(parameters))
    assert_close(bga(arrays["low"], arrays["high"]), arrays["output"])


@pytest.mark.parametrize("backend", ["gather", "torchvision"])
def test_all_six_outputs(backend):
    arrays, parameters = load("fganet_small")
    network = FGANet(
        1, 1, deep_supervision=True, features_per_stage=arrays["widths"].tolist(), deform_backend=backend
    ).eval()
    network.load_state_dict(convert_released_state_dict(parameters))
    main, *auxiliary = network(arrays["input"])
    assert_close(main, arrays["logits"])
    assert_close(torch.stack(auxiliary[::-1])[:, 0], arrays["aux_logits_deepest_first"])
