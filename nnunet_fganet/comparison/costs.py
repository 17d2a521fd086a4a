"""What a frame costs with each network: parameters, operations, and time measured side by side."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, TypeGuard

import torch
from torch import nn
from torch._dynamo import OptimizedModule

from nnunet_fganet.benchmark.measuring import measure
from nnunet_fganet.comparators.counting import multiply_accumulates, paper_count
from nnunet_fganet.comparison.runs import Run, RunFolder
from nnunet_fganet.files import written_beside
from nnunet_fganet.gpu.availability import has_triton
from nnunet_fganet.inference.prepared import optimize_for_inference
from nnunet_fganet.inference.trained import load_model
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.precision import compute_dtypes
from nnunet_fganet.training.settings import TrainingSettings

RUNS = 10
PLAIN, PREPARED = "plain", "prepared"


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one frame of the patch's size: median, and the quartiles around it."""

    how: str
    dtype: str
    milliseconds: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Attributes
    ----------
    parameters
        All that are trained, heads of deep supervision included.
    multiply_accumulates
        Of one frame of the patch's size.
    paper_count
        The same as the paper counts.
    latencies
        ``plain``: PyTorch's eager mode with contiguous memory, as every network is measured. ``prepared``: FGA-Net as
        ``nnUNetv2_predict`` runs it, on a CPU and on GPUs with Triton.
    """

    parameters: int
    multiply_accumulates: int
    paper_count: int
    latencies: tuple[Latency, ...]


def measured_costs(folder: RunFolder, runs: Mapping[str, Run], device: str, machine: str) -> dict[str, Cost]:
    """Costs of networks, as kept in the run folder where all of them were measured together on equal terms.

    Equal are machine, number of threads and version of torch; else they are measured anew.

    Parameters
    ----------
    folder
        Where they are kept.
    runs
        A finished run by the name of the network: its weights are timed.
    device
        ``cpu`` or ``cuda``.
    machine
        In words.
    """
    terms = {"machine": machine, "threads": torch.get_num_threads(), "torch": torch.__version__}
    kept = _kept(folder.costs, terms)
    if set(runs) <= set(kept):
        return {name: kept[name] for name in runs}
    print(f"\nTiming {len(runs)} networks, one frame after the other")
    costs = measure_costs({name: load_trained(folder, run) for name, run in runs.items()}, device)
    document = {**terms, "networks": {name: asdict(cost) for name, cost in costs.items()}}
    with written_beside(folder.costs, overwrite=True) as partial_file:
        partial_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return costs


@dataclass(frozen=True)
class Loaded:
    """A trained network in evaluation mode, and what it takes."""

    network: nn.Module
    input_channels: int
    patch: tuple[int, ...]
    parameters: int
    precision: str


def measure_costs(networks: Mapping[str, Loaded], device: str) -> dict[str, Cost]:
    """Count and time networks in this process.

    All are timed plain first: preparing FGA-Net changes how the whole process keeps memory on a CPU.
    """
    times: dict[str, list[Latency]] = {}
    for name, loaded in networks.items():
        times[name] = [_time(PLAIN, partial(_plain, loaded.network, device), loaded, device)]
    for name, loaded in networks.items():
        if is_prepared(loaded.network, device):
            build = partial(_prepared, loaded.network, loaded.precision, device)
            times[name].append(_time(PREPARED, build, loaded, device))
    return {
        name: Cost(
            loaded.parameters,
            multiply_accumulates(loaded.network, loaded.input_channels, loaded.patch),
            paper_count(loaded.network, loaded.input_channels, loaded.patch),
            tuple(times[name]),
        )
        for name, loaded in networks.items()
    }


def is_prepared(network: nn.Module, device: str) -> TypeGuard[FGANet]:
    """Whether ``nnUNetv2_predict`` prepares a network: FGA-Net, on a CPU and on GPUs with Triton."""
    return isinstance(network, FGANet) and (device == "cpu" or has_triton())


def load_trained(folder: RunFolder, run: Run) -> Loaded:
    """Load a network with its weights as nnU-Net's prediction does."""
    predictor = load_model(folder.model(run), run.fold)
    network = predictor.network
    if isinstance(network, OptimizedModule):
        network = network._orig_mod  # nnUNet_compile is set, and all networks are timed in eager mode
    if isinstance(network, FGANet):
        network.inference, network.compute_dtypes = None, {}  # plain; prepared is measured beside it
    manager = predictor.configuration_manager
    settings = TrainingSettings.from_configuration(manager.configuration)
    return Loaded(
        network,
        len(predictor.dataset_json["channel_names"]),
        tuple(manager.patch_size),
        sum(parameter.numel() for parameter in network.parameters()),
        settings.precision,
    )


def _plain(network: nn.Module, device: str) -> tuple[Callable[[torch.Tensor], Any], str]:
    # nnU-Net builds FGA-Net with channels last and the comparators contiguous.
    network = network.to(device).to(memory_format=torch.contiguous_format)
    return network, "float16, mixed" if device == "cuda" else "float32"


def _prepared(network: FGANet, precision: str, device: str) -> tuple[Callable[[torch.Tensor], Any], str]:
    # On GPUs nnU-Net's autocast decides, where the plans do not.
    prepared = optimize_for_inference(network, compute_dtypes(precision).get(device, torch.float16))
    return prepared, str(prepared.dtype).removeprefix("torch.")


def _time(
    how: str, build: Callable[[], tuple[Callable[[torch.Tensor], Any], str]], loaded: Loaded, device: str
) -> Latency:
    call, dtype = build()
    image = torch.randn(1, loaded.input_channels, *loaded.patch, device=device)

    @torch.inference_mode()
    def predict() -> Any:
        with torch.autocast(device, enabled=device == "cuda"):  # as nnU-Net predicts
            return call(image)

    times = measure(lambda: predict, RUNS, device).times
    low, median, high = quantiles(times, n=4, method="inclusive")
    return Latency(how, dtype, median, low, high)


def _kept(file: Path, terms: Mapping[str, Any]) -> dict[str, Cost]:
    """Costs that were measured on these terms; none where the file is missing, damaged or of another version."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if any(document[name] != value for name, value in terms.items()):
            return {}
        return {name: _from_json(cost) for name, cost in document["networks"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _from_json(document: dict[str, Any]) -> Cost:
    latencies = tuple(Latency(**latency) for latency in document["latencies"])
    return Cost(**{**document, "latencies": latencies})
