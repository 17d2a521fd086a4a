import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gpu_script_runs_on_the_cpu(tmp_path):
    done = subprocess.run(
        [sys.executable, PROJECT / "benchmarks" / "gpu.py", tmp_path / "out", "cpu", "128", "1"],
        capture_output=True,
        text=True,
        # Without a compiler on the path, which is what it then says, and what spares the test two minutes.
        env={**os.environ, "PATH": str(Path(sys.executable).parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {}
    for name in ("frame", "step"):
        rows |= {row["name"]: row for row in json.loads((tmp_path / "out" / f"{name}.json").read_text())}
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
    assert next(iter(rows)) == "reference"
    steps = ["train-reference", "train-float32", "train-bfloat16", "loss-reference", "loss-float32"]
    assert list(rows)[-5:] == steps
    assert rows["train-float32"]["agreement"] > 0.999
    assert rows["train-bfloat16"]["agreement"] > 0.5  # two patches of 64 x 64 px: a noisy gradient
    assert rows["loss-float32"]["agreement"] > 0.9999
    assert "nothing is compiled" in done.stdout
    assert "fastest: " in done.stdout
