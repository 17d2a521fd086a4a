import pytest
import torch

from nnunet_fganet.network.counting import conv_feature_map_size, count_operations
from nnunet_fganet.network.fganet import FGANet


@pytest.fixture(scope="module")
def released_count():
    return count_operations(FGANet(3, 1, deep_supervision=True), 3, (512, 512))


def test_convolutions_of_the_released_network(released_count):
    assert round(released_count.convolution_macs / 1e9, 3) == 74.742
    assert round(released_count.deformable_macs / 1e9, 3) == 31.407
    assert round(released_count.multiply_accumulates / 1e9, 2) == 106.15
    assert round(released_count.flops / 1e9, 1) == 212.3


def test_the_papers_figure_is_the_sum_of_its_four_terms(released_count):
    terms = (
        released_count.convolution_macs,
        released_count.batch_norm,
        released_count.instance_norm,
        released_count.upsampling,
    )
    assert [round(term / 1e9, 4) for term in terms] == [74.7425, 0.4241, 0.0186, 0.1788]
    assert round(sum(terms) / 1e9, 3) == round(released_count.paper_count / 1e9, 3) == 75.364


def test_counting_agrees_with_torchs_own_counter():
    from torch.utils.flop_counter import FlopCounterMode

    network = FGANet(1, 2, features_per_stage=(8, 16, 32), sda=False)  # torch does not count deformable ones
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 1, 64, 64))
    assert count_operations(network, 1, (64, 64)).flops == counter.get_total_flops()


def test_feature_map_size_grows_with_the_area():
    network = FGANet(1, 1, features_per_stage=(8, 16, 32))
    assert conv_feature_map_size(network, 1, (128, 64)) == 2 * conv_feature_map_size(network, 1, (64, 64))
    assert network.compute_conv_feature_map_size((64, 64)) == conv_feature_map_size(network, 1, (64, 64))
