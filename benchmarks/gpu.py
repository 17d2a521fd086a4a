"""Measure everything that needs a GPU, in one call: tests, deformable convolutions, a frame, a training step.

    python benchmarks/gpu.py OUT [DEVICE [SIZE [RUNS]]]

Writes ``frame.json``, ``step.json`` and their plots into the folder OUT, and prints whether the targets
for one frame are met: 6 times eager float32 torchvision, and 2 ms. DEVICE (default cuda) may be cpu,
to try the script itself; SIZE is 512 and RUNS 50 unless given.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from nnunet_fganet.cli.main import main as fganet
from nnunet_fganet.compiled.operators import sampled_columns
from nnunet_fganet.gpu.availability import has_triton
from nnunet_fganet.network.deform_conv import deform_conv2d
from nnunet_fganet.network.deform_gather import channel_rows, positions, weight_matrix

PROJECT = Path(__file__).resolve().parents[1]
RATIO, MILLISECONDS = 6, 2
LAYERS = [(64, 4), (128, 8), (256, 16), (512, 32), (1024, 16), (512, 8), (256, 4)]  # channels, and how often halved


def main(out: str, device: str = "cuda", size: str = "512", runs: str = "50") -> int:
    """Run tests and benchmarks; returns the exit code."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if device == "cuda":
        _test_kernels()
        if has_triton():
            _time_layers(int(size))
    for name, options in (("frame", ["--size", size]), ("step", ["--train", "--size", str(int(size) // 2)])):
        files = ["--json", str(folder / f"{name}.json"), "--plot", str(folder / f"{name}.png"), "--force"]
        code = fganet(["benchmark", "--device", device, "--runs", runs, *options, *files])
        if code:
            return code
    rows = json.loads((folder / "frame.json").read_text())
    best = min(rows, key=lambda row: row["milliseconds"])
    print(f"\nfastest: {best['name']}")
    print(f"{best['milliseconds']} ms (target {MILLISECONDS}), {best['ratio']} times the reference (target {RATIO})")
    return 0


def _test_kernels() -> None:
    tests = PROJECT / "tests" / "gpu"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "not slow", tests], cwd=PROJECT, check=True)


def _time_layers(size: int) -> None:
    """Print what the seven deformable convolutions of one frame take, microseconds."""
    from triton.testing import do_bench

    print(f"{'deformable convolution':26}{'torchvision, float32':>22}{'samples, float16':>18}{'product':>10}")
    total = torch.zeros(3)
    for channels, halved in LAYERS:
        side = size // halved
        shapes = [(1, channels, side, side), (1, 18, side, side), (channels, channels, 3, 3), (channels,)]
        given = [torch.randn(shape, device="cuda") for shape in shapes]
        x, offset, weight, bias = (each.half() for each in given)
        rows, (places, _) = channel_rows(x), positions(offset, None)
        matrix = weight_matrix(weight).contiguous()
        columns = sampled_columns(rows, places, None, side, side).view(len(rows), -1)
        calls = (
            lambda given=given: deform_conv2d(*given, backend="torchvision"),
            lambda rows=rows, places=places, side=side: sampled_columns(rows, places, None, side, side),
            lambda columns=columns, matrix=matrix, bias=bias: torch.nn.functional.linear(columns, matrix, bias),
        )
        times = torch.tensor([1e3 * do_bench(call, return_mode="median") for call in calls])
        total += times
        _print_times(f"{channels} channels, {side} x {side}", times)
    _print_times("all", total)


def _print_times(name: str, times: torch.Tensor) -> None:
    print(f"{name:26}{times[0]:>22.0f}{times[1]:>18.0f}{times[2]:>10.0f}")


if __name__ == "__main__":
    if len(sys.argv) not in range(2, 6):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
