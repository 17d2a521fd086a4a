import json
import os

import cv2
import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from wire_dataset import DATASET_ID, DATASET_NAME, write_dataset

from nnunet_fganet.cli.main import main
from nnunet_fganet.errors import InputError
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.planning.memory import training_memory_gb
from nnunet_fganet.planning.planner import PLANS_NAME, FGANetPlanner, PlanningOptions, fitted_patch, stages_that_divide
from nnunet_fganet.planning.wire_width import largest_radius, skeleton_iterations

REGION = {"background": 0, "guidewire": [1, 1]}
SMALL = ("--widths", "8", "16", "16", "--batch", "2", "--epochs", "2", "--iterations", "3")
PLAN = ("plan", str(DATASET_ID), "--workers", "1", *SMALL)


@pytest.fixture
def dataset(nnunet):
    return write_dataset(nnunet.raw, REGION, regions=True)


def plans_of(nnunet, name="nnUNetFGANetPlans"):
    return json.loads((nnunet.preprocessed / DATASET_NAME / f"{name}.json").read_text())


@pytest.mark.slow
def test_options_are_stored_and_plans_are_not_overwritten(nnunet, dataset, capsys):
    """The same plans are no change, other plans need --force, other splits a new start."""
    options = ("--alpha", "0.1", "--learning-rate", "0.05", "--norm", "instance", "--no-bga", "--precision", "float32")
    assert main([*PLAN, *options, "--stage-weights", "1", "0.5", "0.25"]) == 0
    plan = plans_of(nnunet)["configurations"]["2d"]
    assert plan["patch_size"] == [96, 96]
    assert plan["batch_size"] == 2
    assert plan["use_mask_for_norm"] == [True]
    assert plan["normalization_schemes"] == ["ZScoreNormalization"]
    assert plan["architecture"]["network_class_name"] == "nnunet_fganet.network.fganet.FGANet"
    arguments = plan["architecture"]["arch_kwargs"]
    assert arguments["features_per_stage"] == [8, 16, 16]
    assert arguments["norm"] == "instance"
    assert arguments["bga"] is False
    assert arguments["strides"] == [[1, 1]] * 4
    settings = plan["fganet"]
    assert settings["epochs"] == 2
    assert settings["validation_iterations"] == 1
    assert settings["alpha"] == 0.1
    assert settings["stage_weights"] == [1, 0.5, 0.25]
    assert settings["skeleton_iterations"] == 3
    assert settings["precision"] == "float32"
    assert main([*PLAN]) == 2
    assert "--force" in capsys.readouterr().err
    assert plans_of(nnunet)["configurations"]["2d"] == plan
    assert main([*PLAN, *options, "--stage-weights", "1", "0.5", "0.25"]) == 0
    splits = json.loads((dataset / "splits_final.json").read_text())
    (dataset / "splits_final.json").write_text(json.dumps(splits[::-1]))
    assert main([*PLAN, "--force"]) == 2
    assert "splits_final.json belongs to an earlier conversion" in capsys.readouterr().err


def write_plans(side, overwrite):
    network = {"features_per_stage": [8, 16, 16]}
    options = PlanningOptions((side, side), 2, 24, network, {"skeleton_iterations": 3}, overwrite)
    extract_fingerprint_dataset(DATASET_ID, num_processes=1)
    planner = type("FGANetPlanner", (FGANetPlanner,), {"options": options})
    plan_experiment_dataset(DATASET_ID, planner, overwrite_plans_name=PLANS_NAME)


@pytest.mark.slow
def test_force_replaces_stale_configurations_and_plans_that_were_cut_off_but_not_what_the_user_added(
    nnunet, dataset, monkeypatch
):
    workers = "nnUNet_n_proc_DA"
    monkeypatch.setenv(workers, "0")  # no workers for trainings is no obstacle to planning
    file = nnunet.preprocessed / DATASET_NAME / f"{PLANS_NAME}.json"
    write_plans(96, overwrite=False)
    plans = plans_of(nnunet)
    assert set(plans["configurations"]) == {"2d", "2d_stock"}
    plans["configurations"]["mine"] = {"inherits_from": "2d", "batch_size": 3}
    file.write_text(json.dumps(plans))
    write_plans(33, overwrite=True)
    assert set(plans_of(nnunet)["configurations"]) == {"2d", "mine"}
    file.write_text('{"configurations": ')
    with pytest.raises(InputError, match=rf"{PLANS_NAME}\.json is no readable JSON file .*--force"):
        write_plans(96, overwrite=False)
    write_plans(96, overwrite=True)
    assert os.environ[workers] == "0"
    assert "2d" in plans_of(nnunet)["configurations"]


@pytest.mark.parametrize(
    "name",
    [
        "raw/dataset.json",
        "raw/splits_final.json",
        "preprocessed/dataset_fingerprint.json",
        "preprocessed/splits_final.json",
    ],
)
def test_a_file_that_was_cut_off_is_named(nnunet, dataset, tmp_path, capsys, name):
    place, name = name.split("/")
    file = tmp_path / place / DATASET_NAME / name
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"labels": ')
    assert main([*PLAN]) == 2
    error = capsys.readouterr().err
    assert f"{file} is no readable JSON file" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "nnUNet_preprocessed is not set"),
        ("~/preprocessed", "nnUNet_preprocessed is wrong, ~/preprocessed: '~' and '$' are not expanded"),
        ("preprocessed", "nnUNet_preprocessed is wrong, preprocessed means another folder wherever you are"),
    ],
)
def test_a_folder_that_would_be_misread_is_refused(nnunet, dataset, tmp_path, monkeypatch, capsys, value, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_preprocessed", value)
    assert main([*PLAN]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--widths", "0", "0", "0"), ("--gpu-memory", "nan"), ("--gpu-memory", "-3")])
def test_numbers_that_are_none_are_refused(capsys, options):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", str(DATASET_ID), *options])
    assert f"argument {options[0]}: '{options[1]}' is not a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--epochs", "0"), "epochs"),
        (("--widths", "8", "12", "16"), "8 channels"),
        (("--widths", "8"), "3 stages"),
        (("--dropout", "nan"), "between 0 and 1"),
        (("--patch", "8"), "--patch"),
        (("--stage-weights", "1"), "6 outputs"),
        (("--stage-weights", "0", "1", "1", "1", "1", "1"), "stage_weights"),
        (("--alpha", "1"), "alpha"),
        (("--dropout", "2"), "dropout"),
    ],
)
def test_bad_options_are_named(nnunet, capsys, options, word):
    assert main(["plan", str(DATASET_ID), *options]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1


def test_missing_dataset_says_how_to_make_it(nnunet, capsys):
    assert main(["plan", "77"]) == 2
    assert "fganet convert --id 77" in capsys.readouterr().err


def test_unset_folder_is_named(nnunet, monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_raw")
    assert main(["plan", "77"]) == 2
    assert "nnUNet_raw is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((512, 512), (512, 512)), ((1024, 700), (512, 512)), ((300, 290), (320, 320)), ((30, 65), (64, 96))],
)
def test_patch_fits_the_frames(shape, patch):
    assert fitted_patch(shape) == patch


def test_stock_stages_stop_where_the_patch_no_longer_halves():
    stock = {
        "arch_kwargs": {
            "n_stages": 7,
            "features_per_stage": [1, 2, 3, 4, 5, 6, 7],
            "kernel_sizes": [[3, 3]] * 7,
            "strides": [[1, 1], *[[2, 2]] * 6],
            "n_conv_per_stage": [2] * 7,
            "n_conv_per_stage_decoder": [2] * 6,
        }
    }
    kwargs = stages_that_divide(stock, (288, 320))["arch_kwargs"]
    assert kwargs["n_stages"] == 6
    assert (
        len(kwargs["strides"]) == len(kwargs["features_per_stage"]) == len(kwargs["n_conv_per_stage_decoder"]) + 1 == 6
    )
    assert stages_that_divide(stock, (320, 320))["arch_kwargs"] == stock["arch_kwargs"]


def test_paper_batch_fits_the_papers_card():
    network = FGANet(1, 1)
    assert training_memory_gb(network, (512, 512), 8, 10) < 24
    assert training_memory_gb(network, (512, 512), 8, 10) > training_memory_gb(network, (512, 512), 4, 10)


def test_memory_estimate_agrees_with_what_autograd_saves(monkeypatch):
    from nnunet_fganet.loss import fganet_loss, skeleton
    from nnunet_fganet.loss.fganet_loss import FGANetLoss

    # As on a GPU, whose memory is planned.
    monkeypatch.setattr(skeleton, "soft_skeleton", skeleton.pooled_skeleton)
    monkeypatch.setattr(fganet_loss, "soft_skeleton", skeleton.pooled_skeleton)
    monkeypatch.setattr(
        FGANetLoss,
        "_skeletons",
        lambda self, logits, target: skeleton.skeletons_together(
            [self._probability(each, target) for each in logits], iterations
        ),
    )
    network = FGANet(
        1, 1, True, features_per_stage=(16, 32, 64, 64), deform_backend="gather"
    )  # keeps what Triton's does
    size, batch, iterations = 96, 2, 4
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    saved, kept_alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        kept_alive.append(tensor)  # a freed address could be used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = network(torch.randn(batch, 1, size, size))
        FGANetLoss(regions=True, skeleton_iterations=iterations)(outputs, torch.zeros(batch, 1, size, size))
    measured = sum(nbytes for address, nbytes in saved.items() if address not in weights)
    estimate = training_memory_gb(network, (size, size), batch, iterations) * 1e9
    estimate -= 12 * sum(parameter.numel() for parameter in network.parameters())
    assert estimate == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(("thickness", "radius"), [(1, 1), (3, 2), (9, 5)])
def test_wire_radius(tmp_path, thickness, radius):
    label = np.zeros((64, 64), np.uint8)
    label[20 : 20 + thickness, 5:60] = 1
    cv2.imwrite(str(tmp_path / "a.png"), label)
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((64, 64), np.uint8))
    labels = [str(tmp_path / "a.png"), str(tmp_path / "empty.png")]
    read = NaturalImage2DIO().read_seg
    assert largest_radius(labels, read) == pytest.approx(radius, abs=0.1)
    assert skeleton_iterations(labels, read) == max(3, radius)
    assert largest_radius(labels, read, ignore=1) == 0
