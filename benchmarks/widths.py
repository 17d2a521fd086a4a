"""What narrower networks cost: one frame with the prepared network, in turns in one process.

    python benchmarks/widths.py SIZE WIDTHS...

SIZE of a frame; WIDTHS of the encoder's stages with commas, as ``fganet plan --widths`` takes them with spaces
(32,64,128,256,512,512 is released). For each: parameters, milliseconds of the prepared network in the number format
that predictions choose here (median of twenty-one frames, fastest and slowest), and frames a second.
"""

import sys
import time
from statistics import median

import torch

from nnunet_fganet.inference.prepared import optimize_for_inference
from nnunet_fganet.network.fganet import FGANet

WARM_UP, FRAMES = 3, 21


@torch.no_grad()
def main(size: str, *widths: str) -> None:
    """Print the table."""
    frame = torch.randn(1, 1, int(size), int(size))
    networks = {each: built([int(width) for width in each.split(",")]) for each in widths}
    prepared = {each: optimize_for_inference(network) for each, network in networks.items()}
    taken: dict[str, list[float]] = {each: [] for each in widths}
    for _ in range(WARM_UP + FRAMES):
        for each in widths:
            start = time.perf_counter()
            prepared[each](frame)
            taken[each].append((time.perf_counter() - start) * 1e3)
    print(f"{'widths':30}{'parameters, M':>15}{'ms a frame':>12}{'':18}{'frames a second':>16}")
    for each, network in networks.items():
        times = sorted(taken[each][WARM_UP:])
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        spread = f"({times[0]:.0f} to {times[-1]:.0f})"
        print(f"{each:30}{millions:>15.2f}{median(times):>12.1f}  {spread:16}{1e3 / median(times):>16.1f}")


def built(widths: list[int]) -> FGANet:
    """A network with random weights, as ``fganet plan --widths`` plans it."""
    torch.manual_seed(0)
    network = FGANet(1, 1, features_per_stage=widths, dropout=0.0)
    network.apply(network.initialize)
    return network.eval()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
