"""A training step in the number formats and with the convolutions that there are, in turns in one process.

    python benchmarks/training_step.py WIDTHS BATCH SIZE [STEPS]

WIDTHS of the encoder, with commas (32,64,128,256,512,512); BATCH patches of SIZE x SIZE pixels; STEPS of each
way (default 5), after one to warm up. Forward without dropout, six-output loss, backward, update. Prints the median
in milliseconds of each way, and how many times as fast as the reference it is: the reference (eager, float32,
torchvision's deformable convolution, the label's skeleton anew for every output), bfloat16 as trainings compute,
bfloat16 forward and backward as torch's autocast has it, float32 as trainings compute, and float32 with torch's own
convolutions.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.benchmark.network import with_torchs_convolutions
from nnunet_fganet.benchmark.training import ReferenceLoss, make_optimizer
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network.fganet import FGANet

REFERENCE = "reference"
WAYS = {
    "bfloat16": (torch.bfloat16, False),
    "bfloat16, torch's convolutions": (torch.bfloat16, True),
    "float32": (torch.float32, False),
    "float32, torch's convolutions": (torch.float32, True),
}


def main(widths: str, batch: str, size: str, steps: str = "5") -> None:
    """Print the table."""
    keep_freed_memory()
    torch.manual_seed(0)
    shape = (int(batch), 1, int(size), int(size))
    images, labels = torch.randn(shape), (torch.rand(shape) > 0.98).float()
    features = [int(each) for each in widths.split(",")]
    calls = {REFERENCE: reference_step(features, images, labels)}
    calls |= {name: step(features, images, labels, *way) for name, way in WAYS.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(int(steps) + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1e3)
    reference = median(taken[REFERENCE][1:])
    for name, milliseconds in taken.items():
        middle = median(milliseconds[1:])
        print(f"{name:35}{middle:>8.0f}{reference / middle:>8.2f}x", flush=True)


def step(
    widths: list[int], images: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype, by_torch: bool
) -> Callable[[], None]:
    """A step of a network of its own, with our convolutions or torch's."""
    network = FGANet(1, 1, deep_supervision=True, features_per_stage=widths, dropout=0.0)
    network.apply(network.initialize)
    network = with_torchs_convolutions(network) if by_torch else network
    network.train().to(memory_format=torch.channels_last)
    network.compute_dtypes = {"cpu": dtype}
    optimizer = make_optimizer(network, torch.device("cpu"), is_reference=False)
    return _call(network, FGANetLoss(regions=True), optimizer, images, labels)


def reference_step(widths: list[int], images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """A step of the released network as torch runs it."""
    network = FGANet(1, 1, deep_supervision=True, features_per_stage=widths, dropout=0.0, deform_backend="torchvision")
    network.apply(network.initialize)
    network = with_torchs_convolutions(network).train()
    optimizer = make_optimizer(network, torch.device("cpu"), is_reference=True)
    return _call(network, ReferenceLoss(), optimizer, images, labels)


def _call(
    network: FGANet, loss: nn.Module, optimizer: torch.optim.SGD, images: torch.Tensor, labels: torch.Tensor
) -> Callable[[], None]:
    def call() -> None:
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()

    return call


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
