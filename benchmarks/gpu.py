"""Measure everything that needs a GPU, in one call: kernels against torchvision, a frame, a training step.

    python benchmarks/gpu.py OUT [DEVICE [SIZE [RUNS]]]

Writes ``frame.json``, ``step.json`` and their plots into the folder OUT, and prints whether the targets
for one frame are met: 6 times eager float32 torchvision, and 2 ms. DEVICE (default cuda) may be cpu,
to try the script itself; SIZE is 512 and RUNS 50 unless given.
"""

import json
import subprocess
import sys
from pathlib import Path

from nnunet_fganet.cli.main import main as fganet

PROJECT = Path(__file__).resolve().parents[1]
RATIO, MILLISECONDS = 6, 2


def main(out: str, device: str = "cuda", size: str = "512", runs: str = "50") -> int:
    """Run tests and benchmarks; returns the exit code."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if device == "cuda":
        _test_kernels()
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
    tests = [PROJECT / "tests" / "network" / name for name in ("test_deform_conv.py", "test_deform_triton.py")]
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "not slow", *tests], cwd=PROJECT, check=True)


if __name__ == "__main__":
    if len(sys.argv) not in range(2, 6):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
