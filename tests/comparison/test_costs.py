"""What networks cost, measured side by side in this process."""

import torch
from comparator_plans import build

from nnunet_fganet.comparison.costs import Loaded, measure_costs
from nnunet_fganet.network.counting import count_operations


def loaded(name: str) -> Loaded:
    network = build(name).eval()
    return Loaded(network, 1, (64, 64), sum(each.numel() for each in network.parameters()), "float32")


def test_every_network_plain_and_fganet_prepared_too() -> None:
    networks = {name: loaded(name) for name in ("fganet", "unet")}
    costs = measure_costs(networks, "cpu")
    assert [latency.how for latency in costs["fganet"].latencies] == ["plain", "prepared"]
    assert [latency.how for latency in costs["unet"].latencies] == ["plain"]
    for cost in costs.values():
        for latency in cost.latencies:
            assert 0 < latency.low <= latency.milliseconds <= latency.high
            assert latency.dtype == "float32"
    counted = count_operations(networks["fganet"].network, 1, (64, 64))
    assert costs["fganet"].multiply_accumulates == counted.multiply_accumulates
    assert costs["fganet"].paper_count == counted.paper_count
    assert costs["unet"].parameters == sum(each.numel() for each in networks["unet"].network.parameters())


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = loaded("fganet")
    before = {name: tensor.clone() for name, tensor in network.network.state_dict().items()}
    measure_costs({"fganet": network}, "cpu")
    for name, tensor in network.network.state_dict().items():
        assert torch.equal(tensor, before[name])
