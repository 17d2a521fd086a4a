"""``fganet compare`` with real trainings: interrupted, gone on with, done, and what remains when one fails."""

import json
import os
import re
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import NNUNetFolders
from planned_dataset import write_planned_dataset, write_record
from wire_dataset import DATASET_ID, DATASET_NAME, write_dataset

from nnunet_fganet.comparison.record import plans_name_of
from nnunet_fganet.evaluation.summary import METRICS

pytestmark = pytest.mark.slow

REGION = {"background": 0, "guidewire": [1, 1]}
SMALL = ("--patch", "64", "--widths", "8", "16", "16", "--batch", "2", "--workers", "1")
EPOCHS = 5
COMPARATOR = "unetplusplus_fganet_loss"
ON_CPU = ("--device", "cpu", "--workers", "1")


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.is_file():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


def test_two_networks_interrupted_and_gone_on_with(nnunet, tmp_path):
    write_dataset(nnunet.raw, REGION, regions=True)
    write_record(nnunet.raw, {f"case{i:02d}": f"sequence{i}" for i in range(10)})
    nnunet.run("fganet", "plan", str(DATASET_ID), *SMALL)
    out = tmp_path / "trial"
    budget = ("--epochs", str(EPOCHS), "--iterations", "6")
    networks = ("--networks", "fganet", "unetplusplus", "--losses", "fganet")
    command = ("compare", str(DATASET_ID), *networks, *budget, *ON_CPU, "--out", out)

    process = nnunet.popen("fganet", *command)
    fold = f"nnUNetTrainerFGANet__{plans_name_of('nnUNetFGANetPlans', out)}__2d_seed0/fold_0"
    wait_for(out / "results" / DATASET_NAME / fold / "checkpoint_latest.pth")
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate()
    assert process.returncode == 2
    assert "interrupted: run the same command again" in said
    assert not (out / "table.md").exists()

    said = nnunet.run("fganet", *command)
    assert "nnUNetv2_train Dataset901_Wires 2d_seed0 0 -tr nnUNetTrainerFGANet" in said and "--npz --c\n" in said
    assert (out / "table.md").read_text() in said
    assert "; all trainings: " in said
    log = (out / "logs" / "fganet_fold0_seed0.log").read_text()
    epochs = re.findall(r": Epoch (\d+)\s*$", log, re.MULTILINE)
    assert epochs.count("0") == 1 and set(epochs) == {str(epoch) for epoch in range(EPOCHS)}
    check_summary(out)

    before = written_when(out / "results")
    costs = (out / "costs.json").read_text()
    again = nnunet.run("fganet", *command)  # in as many threads, so that kept costs count
    assert "2 of 2 trainings are done already." in again and "nnUNetv2_train" not in again
    assert written_when(out / "results") == before
    assert (out / "costs.json").read_text() == costs
    assert (out / "table.md").read_text() in again
    check_prediction(nnunet, out)
    check_that_one_damaged_prediction_leaves_the_other_row(nnunet, out, command)


def check_that_one_damaged_prediction_leaves_the_other_row(nnunet: NNUNetFolders, out: Path, command: tuple) -> None:
    [damaged] = (out / "results" / DATASET_NAME).glob(f"*2d_{COMPARATOR}_seed0/fold_0/validation/case00.npz")
    np.savez_compressed(damaged, probabilities=np.full((1, 1, 96, 96), np.nan, dtype=np.float32))
    said = nnunet.run("fganet", *command, code=2).splitlines()[-1]
    assert "1 of 2 trainings failed" in said and f"{damaged} has values outside 0 to 1" in said
    assert f"remove {damaged.parent}" in said
    assert [entry["name"] for entry in json.loads((out / "summary.json").read_text())["entries"]] == ["fganet"]
    assert f"{damaged} has values outside 0 to 1" in (out / "table.md").read_text()


def check_prediction(nnunet: NNUNetFolders, out: Path) -> None:
    """A comparator of the run folder, in the plans' widths, predicts with nnU-Net's command."""
    model = ("-tr", "nnUNetTrainerComparator", "-c", f"2d_{COMPARATOR}_seed0", "-f", "0", "-device", "cpu")
    where = ("-i", nnunet.raw / DATASET_NAME / "imagesTs", "-o", out / "masks", "-d", str(DATASET_ID))
    plans = ("-p", plans_name_of("nnUNetFGANetPlans", out))
    few = ("--disable_tta", "-npp", "1", "-nps", "1")
    nnunet.run("nnUNetv2_predict", *where, *model, *plans, *few, nnUNet_results=str(out / "results"))
    [folder] = (out / "results" / DATASET_NAME).glob(f"nnUNetTrainerComparator__*__2d_{COMPARATOR}_seed0")
    saved = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False, map_location="cpu")
    assert len(saved["logging"]["train_losses"]) == EPOCHS
    assert saved["network_weights"]["network.conv_0_0.conv_0.conv.weight"].shape == (8, 1, 3, 3)
    for name in ("new0", "new1"):
        prediction = cv2.imread(str(out / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert prediction.shape == (96, 96)
        assert set(np.unique(prediction)) <= {0, 1}


def written_when(folder: Path) -> dict[Path, int]:
    """When each file was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def check_summary(out: Path) -> None:
    """The figures are those of nnU-Net's own validation, and everything that is named is there."""
    summary = json.loads((out / "summary.json").read_text())
    assert [entry["name"] for entry in summary["entries"]] == ["fganet", COMPARATOR]
    assert (summary["frames"], len(set(summary["groups"].values()))) == (2, 2)
    for entry in summary["entries"]:
        assert set(entry["metrics"]) == {metric.key for metric in METRICS}
        [run] = entry["runs"]
        assert len(run["curves"]["train_loss"]) == EPOCHS
        assert (out / run["checkpoint"]).is_file() and (out / run["log"]).is_file()
        validation = json.loads((out / run["model"] / "fold_0" / "validation" / "summary.json").read_text())
        theirs = {
            Path(case["prediction_file"]).stem: next(iter(case["metrics"].values()))
            for case in validation["metric_per_case"]
        }
        assert sorted(theirs) == ["case00", "case05"]
        for frame in run["frames"]:
            assert frame["true_positive"] == theirs[frame["case"]]["TP"]
            assert frame["dice"] == pytest.approx(theirs[frame["case"]]["Dice"])
            assert frame["auc"] is not None
            assert (out / frame["prediction"]).is_file() and (out / frame["probabilities"]).is_file()
    assert summary["entries"][1]["difference"]["metrics"]["dice"]["low"] is not None
    assert [latency["how"] for latency in summary["costs"]["fganet"]["latencies"]] == ["plain", "prepared"]


def test_a_training_that_fails_is_named_with_its_log(nnunet, tmp_path):
    """Preprocessed frames that are empty files: nnU-Net ends with an error, and says so itself."""
    write_planned_dataset(nnunet.raw, nnunet.preprocessed)
    out = tmp_path / "trial"
    command = ("compare", str(DATASET_ID), "--networks", "fganet", *ON_CPU, "--out", out)
    said = nnunet.run("fganet", *command, code=2)
    log = out / "logs" / "fganet_fold0_seed0.log"
    last = [line.strip() for line in log.read_text().splitlines() if line.strip()][-1]
    assert f"fganet: 1 of 1 trainings failed (FGA-Net, fold 0, seed 0: exit code 1, see {log}" in said
    assert last in said.splitlines()[-1] and "Traceback" not in said
