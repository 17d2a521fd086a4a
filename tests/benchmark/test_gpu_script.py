"""``benchmarks/gpu.py`` on the CPU: through it, both forms of ``fganet benchmark``, a frame and a training step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_fganet.benchmark.rows import Row

PROJECT = Path(__file__).resolve().parents[2]
FRAME = ("reference", "gather-float32", "float32", "compiled-float32", "bfloat16", "onnxruntime", "openvino")
STEP = ["train-reference", "train-float32", "train-bfloat16", "loss-reference", "loss-float32"]
RUNS = 3


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What one call printed, and the folder that it wrote."""
    folder = tmp_path_factory.mktemp("gpu") / "out"
    # In a process of its own: torch's compile workers stay alive in the process that compiled.
    done = subprocess.run(
        [sys.executable, PROJECT / "benchmarks" / "gpu.py", folder, "cpu", "128", str(RUNS)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder


def rows_of(path):
    return {row["name"]: row for row in json.loads(path.read_text())}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_frames(measured):
    output, folder = measured
    rows = rows_of(folder / "frame.json")
    assert next(iter(rows)) == "reference" and rows.keys() >= set(FRAME)
    table = output.partition("agreement\n")[2].partition("\n\n")[0]
    assert rows.keys() <= {line.split()[0] for line in table.splitlines()}
    for row in rows.values():
        assert row.keys() == set(Row.__dataclass_fields__)
        assert (row["device"], row["size"], row["runs"]) == ("cpu", 128, RUNS)
        assert row["fastest"] <= row["milliseconds"] <= row["slowest"]
    assert rows["reference"]["ratio"] == rows["reference"]["agreement"] == 1
    for name in set(FRAME) - {"bfloat16"}:
        assert rows[name]["agreement"] >= 0.98, name
    assert "deformable convolutions" in output
    assert "fastest: " in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_steps(measured):
    rows = rows_of(measured[1] / "step.json")
    assert list(rows) == STEP
    assert rows["train-float32"]["agreement"] > 0.999
    assert rows["train-bfloat16"]["agreement"] > 0.2  # two patches of 64 x 64 px: a noisy gradient
    assert rows["loss-float32"]["agreement"] > 0.9999


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["frame.png", "step.png"])
def test_plots(measured, name):
    plot = (measured[1] / name).read_bytes()
    assert plot.startswith(b"\x89PNG") and len(plot) > 10_000
