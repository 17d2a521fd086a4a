"""A training step in the number formats and with the convolutions that there are, in turns in one process.

    python benchmarks/training_step.py WIDTHS BATCH SIZE [STEPS]

WIDTHS of the encoder, with commas (32,64,128,256,512,512); BATCH patches of SIZE x SIZE pixels; STEPS of each
way (default 5), after one to warm up. Forward without dropout, six-output loss, backward, update. Prints the median
in milliseconds of each way: bfloat16 as trainings compute, bfloat16 forward and backward as torch's autocast
has it, float32 as trainings compute, and float32 with torch's own convolutions.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.benchmark.network import with_torchs_convolutions
from nnunet_fganet.benchmark.training import make_optimizer
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network.fganet import FGANet

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
    calls = {name: step(features, images, labels, *way) for name, way in WAYS.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(int(steps) + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1e3)
    for name, milliseconds in taken.items():
        print(f"{name:35}{median(milliseconds[1:]):>8.0f}", flush=True)


def step(
    widths: list[int], images: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype, by_torch: bool
) -> Callable[[], None]:
    """A step of a network of its own, with our convolutions or torch's."""
    network = FGANet(1, 1, deep_supervision=True, features_per_stage=widths, dropout=0.0)
    network.apply(network.initialize)
    network = with_torchs_convolutions(network) if by_torch else network
    network.train().to(memory_format=torch.channels_last)
    network.compute_dtypes = {"cpu": dtype}
    optimizer, loss = make_optimizer(network, torch.device("cpu"), is_reference=False), FGANetLoss(regions=True)

    def call() -> None:
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()

    return call


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
