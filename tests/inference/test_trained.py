"""Trained models loaded from nnU-Net's results, and what is said where that fails."""

import json
import shutil

import pytest
import torch
from trained_model import write_model

from nnunet_fganet.errors import InputError
from nnunet_fganet.inference.trained import load_predictor
from nnunet_fganet.network.fganet import FGANet


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("results") / "nnUNetTrainerFGANet__nnUNetFGANetPlans__2d")


def test_the_network_has_the_checkpoints_weights(model, capsys):
    network = load_predictor(model, 0).network
    saved = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert isinstance(network, FGANet) and not network.training and not network.decoder.deep_supervision
    assert saved.keys() == network.state_dict().keys()
    assert all(torch.equal(saved[key], value) for key, value in network.state_dict().items())
    assert capsys.readouterr().out == ""


def without_plans(model):
    (model / "plans.json").unlink()


def without_final_checkpoint(model):
    (model / "fold_0" / "checkpoint_final.pth").rename(model / "fold_0" / "checkpoint_best.pth")


def damaged(model):
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])


def of_an_unknown_trainer(model):
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainerNobodys"}, checkpoint)


def of_two_channels(model):
    description = json.loads((model / "dataset.json").read_text())
    description["channel_names"]["1"] = "mask"
    (model / "dataset.json").write_text(json.dumps(description))
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    first = content["network_weights"]["encoder.stages.0.0.weight"]
    content["network_weights"]["encoder.stages.0.0.weight"] = first.repeat(1, 2, 1, 1)
    torch.save(content, checkpoint)


def after_another_fold_with_other_plans(model):
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"][-1] *= 2
    (model / "plans.json").write_text(json.dumps(plans))


@pytest.mark.parametrize(
    ("damage", "fold", "said"),
    [
        (after_another_fold_with_other_plans, 0, "another network than its plans.json"),
        (shutil.rmtree, 0, "is not there"),
        (without_plans, 0, "holds no plans.json"),
        (without_final_checkpoint, 0, "train it to its end first"),
        (None, 3, "choose fold 0"),
        (None, "all", "choose fold 0"),
        (damaged, 0, "cannot be loaded"),
        (of_an_unknown_trainer, 0, "nnUNetTrainerNobodys"),
        (of_two_channels, 0, "single grey frames"),
    ],
)
def test_what_cannot_be_loaded_is_named(model, tmp_path, damage, fold, said):
    copied = tmp_path / model.name
    shutil.copytree(model, copied)
    if damage is not None:
        damage(copied)
    with pytest.raises(InputError, match=said) as raised:
        load_predictor(copied, fold)
    assert str(copied) in str(raised.value) and "\n" not in str(raised.value)


def test_a_gpu_that_is_not_there(model, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU"):
        load_predictor(model, device="cuda")
