"""What networks cost, measured side by side in this process."""

import json
from pathlib import Path

import pytest
import torch
from comparator_plans import SCALE, build
from torch import nn
from trained_model import FGANET, UNET, write_model

from nnunet_fganet.comparison.costs import Loaded, is_prepared, load_trained, measure_costs, measured_costs
from nnunet_fganet.comparison.entries import compared_entries
from nnunet_fganet.comparison.runs import Run, RunFolder
from nnunet_fganet.errors import InputError
from nnunet_fganet.gpu.availability import has_triton
from nnunet_fganet.network.counting import count_operations


def loaded(name: str, scale: float = SCALE, precision: str = "float32") -> Loaded:
    network = build(name, scale=scale).eval()
    return Loaded(network, 1, (64, 64), sum(each.numel() for each in network.parameters()), precision)


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


@pytest.mark.parametrize(
    ("name", "device", "prepared"),
    [("fganet", "cpu", True), ("fganet", "cuda", True), ("unet", "cpu", False), ("unet", "cuda", False)],
)
def test_prepared_is_measured_where_nnunet_predicts_so(
    monkeypatch: pytest.MonkeyPatch, name: str, device: str, prepared: bool
) -> None:
    monkeypatch.setattr("nnunet_fganet.comparison.costs.has_triton", lambda: True)
    assert is_prepared(build(name), device) is prepared


def test_without_triton_nothing_is_prepared_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnunet_fganet.comparison.costs.has_triton", lambda: False)
    assert not is_prepared(build("fganet"), "cuda")


@pytest.mark.skipif(not has_triton(), reason="needs a GPU that Triton compiles for")
def test_on_a_gpu_every_network_is_measured_plain_and_fganet_prepared() -> None:
    costs = measure_costs({name: loaded(name, precision="auto") for name in ("fganet", "unet")}, "cuda")
    assert [(latency.how, latency.dtype) for cost in costs.values() for latency in cost.latencies] == [
        ("plain", "float16, mixed"),
        ("prepared", "float16"),
        ("plain", "float16, mixed"),
    ]


@pytest.mark.parametrize("name", ["fganet", "unet"])
def test_every_network_computes_in_one_memory_format(name: str) -> None:
    """Whichever it was built with: nnU-Net builds FGA-Net with channels last."""
    plain = loaded(name, SCALE / 4)
    plain.network.to(memory_format=torch.channels_last)
    contiguous = []

    def note_format(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if output.device.type == "cpu":  # operations are counted on another
            contiguous.append(output.is_contiguous())

    for module in plain.network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note_format)
    measure_costs({name: plain}, "cpu")
    assert contiguous and all(contiguous)


def test_costs_are_kept_as_long_as_they_were_measured_on_equal_terms(tmp_path: Path) -> None:
    folder, [entry] = RunFolder(tmp_path, "Dataset901_Wires", "P"), compared_entries(["unet"])
    run = Run(entry, 0, 0)
    write_model(folder.model(run), UNET)
    first = measured_costs(folder, {"unet": run}, "cpu", "a machine")
    assert measured_costs(folder, {"unet": run}, "cpu", "a machine") == first
    kept = json.loads(folder.costs.read_text())
    [cost] = kept["networks"].values()
    for other in (
        {**kept, "threads": kept["threads"] + 1},
        {**kept, "torch": "1.0"},
        {name: value for name, value in kept.items() if name != "threads"},  # as an earlier version wrote it
        {**kept, "networks": {"unet": {**cost, "flops": 1}}},
        {**kept, "networks": {"unet": {**cost, "latencies": [{}]}}},
        [],
    ):
        folder.costs.write_text(json.dumps(other))
        assert measured_costs(folder, {"unet": run}, "cpu", "a machine") != first
        assert set(json.loads(folder.costs.read_text())) == {"machine", "threads", "torch", "networks"}


def test_a_training_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    folder, [entry] = RunFolder(tmp_path, "Dataset901_Wires", "P"), compared_entries(["unet"])
    run = Run(entry, 0, 0)
    write_model(folder.model(run), UNET)
    folder.checkpoint(run).write_bytes(b"PK")
    with pytest.raises(InputError, match="fold 0, cannot be loaded"):
        load_trained(folder, run)


@pytest.mark.parametrize("compiled", ["f", "t"])
@pytest.mark.parametrize(("name", "architecture"), [("fganet", FGANET), ("unet", UNET)])
def test_a_trained_network_is_loaded_to_run_in_eager_mode(
    name: str, architecture: dict, compiled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nnU-Net is told to compile all networks that it loads."""
    monkeypatch.setenv("nnUNet_compile", compiled)
    folder, [entry] = RunFolder(tmp_path, "Dataset901_Wires", "P"), compared_entries([name])
    run = Run(entry, 0, 0)
    write_model(folder.model(run), architecture)
    trained = load_trained(folder, run)
    assert type(trained.network).__name__ == architecture["network_class_name"].rpartition(".")[2]
    assert (trained.input_channels, trained.patch) == (1, (64, 64))
    weights = torch.load(folder.checkpoint(run), weights_only=False)["network_weights"]
    loaded_weights = trained.network.state_dict()
    assert set(loaded_weights) == set(weights)
    assert all(torch.equal(loaded_weights[key], weight) for key, weight in weights.items())
    assert not trained.network.training
