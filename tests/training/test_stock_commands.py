"""The stock nnU-Net commands, in fresh processes, from planning to prediction."""

import json
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from wire_dataset import DATASET_ID, DATASET_NAME, wire_frame, write_dataset

pytestmark = pytest.mark.slow

D = str(DATASET_ID)
REGION = {"background": 0, "guidewire": [1, 1]}
PLAIN = {"background": 0, "guidewire": 1}
SMALL = ("--workers", "1", "--widths", "8", "16", "16", "--batch", "2", "--iterations", "3")
TRAIN = ("2d", "0", "-tr", "nnUNetTrainerFGANet", "-device", "cpu")
OURS = ("-p", "nnUNetFGANetPlans")
FEW_PROCESSES = ("-npp", "1", "-nps", "1")
PREDICT_AND_COUNT = """
from nnunet_fganet.inference import automatic
from nnunetv2.inference.predict_from_raw_data import predict_entry_point
calls, prepare = [], automatic.optimize_for_inference
automatic.optimize_for_inference = lambda *arguments: calls.append(1) or prepare(*arguments)
predict_entry_point()
print("PREPARED", len(calls))
"""
VALIDATE_A_COMPILED_NETWORK = """
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
given = "nnUNetTrainerFGANet", "nnUNetFGANetPlans"
trainer = get_trainer_from_args({dataset!r}, "2d", 0, *given, device=torch.device("cpu"))
maybe_load_checkpoint(trainer, False, True)
trainer.network = compiled = torch.compile(trainer.network, backend="eager")
trainer.perform_actual_validation()
print("COMPILED", torch._dynamo.utils.counters["frames"]["total"], trainer.network is compiled)
"""


def fold_folder(nnunet, trainer="nnUNetTrainerFGANet", plans="nnUNetFGANetPlans", fold="0"):
    return nnunet.results / DATASET_NAME / f"{trainer}__{plans}__2d" / f"fold_{fold}"


def plans_of(nnunet):
    return json.loads((nnunet.preprocessed / DATASET_NAME / "nnUNetFGANetPlans.json").read_text())


def checkpoint(folder: Path, name: str) -> dict:
    return torch.load(folder / f"checkpoint_{name}.pth", weights_only=False, map_location="cpu")


@pytest.fixture(scope="module")
def trained(shared_nnunet):
    """A data set planned by us and trained for two epochs by the stock command."""
    write_dataset(shared_nnunet.raw, REGION, regions=True)
    shared_nnunet.run("fganet", "plan", D, *SMALL, "--epochs", "2")
    shared_nnunet.run("nnUNetv2_train", D, *TRAIN, *OURS)
    return shared_nnunet


def test_validation_alone_saves_probabilities(trained):
    assert "Validation complete" in trained.run("nnUNetv2_train", D, *TRAIN, *OURS, "--val", "--npz")
    folder = fold_folder(trained)
    assert sorted(path.stem for path in (folder / "validation").glob("*.png")) == ["case00", "case05"]
    probabilities = np.load(folder / "validation" / "case00.npz")["probabilities"]
    assert probabilities.shape[0] == 1  # one region, one head
    assert "foreground_mean" in json.loads((folder / "validation" / "summary.json").read_text())


def test_a_compiled_network_validates_by_the_prepared_one(trained):
    """nnU-Net compiles by itself on GPUs only."""
    output = trained.run("python", "-c", VALIDATE_A_COMPILED_NETWORK.format(dataset=D))
    assert output.count("FGA-Net prepared for inference in ") == 1
    assert output.splitlines()[-1] == "COMPILED 0 True"


def test_prediction(trained, tmp_path):
    model = ("-tr", "nnUNetTrainerFGANet", "-c", "2d", "-f", "0", "-d", D, "-device", "cpu", *OURS)
    frames = trained.raw / DATASET_NAME / "imagesTs"
    trained.run("nnUNetv2_predict", "-i", frames, "-o", tmp_path / "out", *model, *FEW_PROCESSES)
    for name in ("new0", "new1"):
        prediction = cv2.imread(str(tmp_path / "out" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert prediction.shape == (96, 96)
        assert set(np.unique(prediction)) <= {0, 1}


def test_prediction_prepares_the_network_once(trained, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(20):
        cv2.imwrite(str(frames / f"frame{number:02d}_0000.png"), wire_frame(200 + number)[0])
    model = ("-tr", "nnUNetTrainerFGANet", "-c", "2d", "-f", "0", "-d", D, "-device", "cpu", *OURS)
    options = ("-i", frames, "-o", tmp_path / "out", *model, "--disable_tta", *FEW_PROCESSES)
    output = trained.run("python", "-c", PREDICT_AND_COUNT, *options)
    assert output.count("FGA-Net prepared for inference in ") == 1
    assert output.splitlines()[-1] == "PREPARED 1"
    assert len(list((tmp_path / "out").glob("*.png"))) == 20


def test_all_folds_and_the_checkpoints_of_an_earlier_training(trained):
    folder = fold_folder(trained, fold="all")
    folder.mkdir()
    earlier = (fold_folder(trained) / "checkpoint_final.pth").read_bytes()
    (folder / "checkpoint_final.pth").write_bytes(earlier)
    trained.run("nnUNetv2_train", D, "2d", "all", "-tr", "nnUNetTrainerFGANet", "-device", "cpu", *OURS)
    assert [path.read_bytes() for path in folder.glob("earlier_*/checkpoint_final.pth")] == [earlier]
    assert len(checkpoint(folder, "final")["logging"]["train_losses"]) == 2


def test_the_stock_trainer_trains_our_plans(trained):
    """Plans of ours are whole: nnU-Net's own trainer builds FGA-Net and its six outputs from them."""
    script = (
        "from nnunetv2.run.run_training import get_trainer_from_args; import torch;"
        f"t = get_trainer_from_args('{D}', '2d', 0, 'nnUNetTrainer', 'nnUNetFGANetPlans', device=torch.device('cpu'));"
        "t.initialize(); t.dataloader_train, t.dataloader_val = t.get_dataloaders();"
        "print('loss', float(t.train_step(next(t.dataloader_train))['loss']), type(t.network).__name__)"
    )
    output = trained.run("python", "-c", script, nnUNet_n_proc_DA="0")
    assert output.splitlines()[-1].endswith("FGANet")


def test_a_seeded_training_without_workers_repeats_exactly(trained):
    """In one process each time, as nnU-Net trains with nnUNet_n_proc_DA=0: batches, augmentation, weights, dropout."""
    plans = plans_of(trained) | {"plans_name": "Seeded"}
    for seed in (3, 4):
        settings = plans["configurations"]["2d"]["fganet"] | {"seed": seed}
        plans["configurations"][f"2d_seed{seed}"] = {"inherits_from": "2d", "fganet": settings}
    (trained.preprocessed / DATASET_NAME / "Seeded.json").write_text(json.dumps(plans))
    script = (
        "from nnunetv2.run.run_training import get_trainer_from_args; import torch\n"
        "for seed in (3, 3, 4):\n"
        f"    t = get_trainer_from_args('{D}', f'2d_seed{{seed}}', 0, 'nnUNetTrainerFGANet', 'Seeded',\n"
        "                              device=torch.device('cpu'))\n"
        "    t.on_train_start(); t.on_train_epoch_start()\n"
        "    print('LOSSES', [float(t.train_step(next(t.dataloader_train))['loss']) for _ in range(3)])\n"
    )
    output = trained.run("python", "-c", script, nnUNet_n_proc_DA="0")
    first, again, other = (line for line in output.splitlines() if line.startswith("LOSSES"))
    assert first == again != other


def test_comparator_trains_stock_nnunet_with_the_budget_of_our_plans(trained):
    trained.run("nnUNetv2_train", D, "2d_stock", "0", "-tr", "nnUNetTrainerComparator", "-device", "cpu", *OURS)
    folder = trained.results / DATASET_NAME / "nnUNetTrainerComparator__nnUNetFGANetPlans__2d_stock" / "fold_0"
    saved = checkpoint(folder, "final")
    assert len(saved["logging"]["train_losses"]) == 2
    assert any("encoder.stages.0.0.convs" in key for key in saved["network_weights"])


def test_stock_plans_and_plain_labels(nnunet):
    write_dataset(nnunet.raw, PLAIN, regions=False)
    few = ("-npfp", "1", "-np", "1")
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", D, "-c", "2d", *few, "--verify_dataset_integrity")
    plans_file = nnunet.preprocessed / DATASET_NAME / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text())
    # Shorter than any user would train, but by the only way that stock plans offer us.
    plans["configurations"]["2d"] |= {
        "batch_size": 2,
        "fganet": {"epochs": 1, "iterations": 1, "validation_iterations": 1},
    }
    plans_file.write_text(json.dumps(plans))
    nnunet.run("nnUNetv2_train", D, *TRAIN)
    weights = checkpoint(fold_folder(nnunet, plans="nnUNetPlans"), "final")["network_weights"]
    assert weights["decoder.seg_layers.0.weight"].shape[:2] == (2, 32)  # background and wire; the released widths


def test_a_killed_training_goes_on_where_it_was(trained):
    """SIGKILL in mid-epoch, then --c: the learning rates are those of a training that was never killed."""
    plans = plans_of(trained) | {"plans_name": "Killed"}
    plans["configurations"]["2d"]["fganet"] |= {"epochs": 6, "iterations": 8}
    (trained.preprocessed / DATASET_NAME / "Killed.json").write_text(json.dumps(plans))
    folder = fold_folder(trained, plans="Killed")
    command = ("nnUNetv2_train", D, *TRAIN, "-p", "Killed")
    process = trained.popen(*command)
    latest = folder / "checkpoint_latest.pth"
    deadline = time.monotonic() + 300
    while not latest.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # into the next epoch
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = checkpoint(folder, "latest")
    done = killed["current_epoch"]
    assert 1 <= done < 6
    output = trained.run(*command, "--c")
    assert f"Epoch {done}" in output
    assert "Epoch 0" not in output
    final = checkpoint(folder, "final")
    expected = [0.1 * (1 + np.cos(np.pi * epoch / 6)) / 2 for epoch in range(6)]
    assert killed["logging"]["lrs"][:done] == pytest.approx(expected[:done])
    np.testing.assert_allclose(final["logging"]["lrs"], expected, rtol=1e-6)
    assert not list(folder.glob("*.partial"))
    momentum = killed["optimizer_state"]["state"][0]["momentum_buffer"]
    assert momentum.abs().max() > 0
