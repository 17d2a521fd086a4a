import warnings

import pytest
import torch
from golden import load

from nnunet_fganet.network.released import convert_released_state_dict


def test_data_parallel_prefix_makes_no_difference():
    _, parameters = load("sda")
    plain = convert_released_state_dict(parameters)
    prefixed = convert_released_state_dict({f"module.{key}": value for key, value in parameters.items()})
    assert plain.keys() == prefixed.keys()


def test_unused_parameters_are_named_in_one_warning():
    _, parameters = load("fganet_small")
    unused = {"up1.up.weight": torch.zeros(1), "down1.maxpool_conv.1.gate.unused": torch.zeros(1)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        converted = convert_released_state_dict({**parameters, **unused})
    assert len(caught) == 1
    assert all(key in str(caught[0].message) for key in unused)
    assert converted.keys() == convert_released_state_dict(parameters).keys()


@pytest.mark.parametrize("key", ["outc.conv.weight", "up5.bga.out.1.running_var", "gt_conv1.0.bias"])
def test_missing_parameter_is_named(key):
    _, parameters = load("fganet_small")
    del parameters[key]
    with pytest.raises(KeyError, match=key):
        convert_released_state_dict(parameters)
