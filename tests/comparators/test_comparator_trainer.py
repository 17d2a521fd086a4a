"""nnUNetTrainerComparator on every kind of network and both losses, in this process."""

import json

import numpy as np
import pytest
import torch
from comparator_plans import PLANS, REGION, SIZE, plans
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from wire_dataset import DATASET_NAME

from nnunet_fganet.comparators.configurations import comparator_configurations, configuration_name
from nnunet_fganet.errors import InputError
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.training.comparator import FullResolutionLoss, nnUNetTrainerComparator

PLAIN = {"channel_names": {"0": "xray"}, "labels": {"background": 0, "guidewire": 1}, "file_ending": ".png"}


def make(nnunet, name, loss="nnunet", dataset=REGION, **arguments):
    """A trainer that is ready for its first step."""
    preprocessed = nnunet.preprocessed / DATASET_NAME / "nnUNetFGANetPlans_2d"
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()  # by this name nnU-Net knows how frames are stored
    whole = plans() | {"continue_training": False}
    whole["configurations"] |= comparator_configurations(PLANS, dataset, [name], loss, **arguments)
    torch.manual_seed(0)
    trainer = nnUNetTrainerComparator(whole, configuration_name(name, loss), 0, dataset, torch.device("cpu"))
    trainer.initialize()
    return trainer


def batch(trainer):
    """Frames with one wire; targets of the sizes that the trainer asks nnU-Net's loader for."""
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(2, 1, SIZE, SIZE)
    label[:, :, 30:32, 5:50] = 1
    scales = trainer._get_deep_supervision_scales()
    target = (
        label if scales is None else [label[..., :: int(1 / rows), :: int(1 / columns)] for rows, columns in scales]
    )
    return {"data": torch.randn(2, 1, SIZE, SIZE, generator=generator) - 2 * label, "target": target}


@pytest.mark.parametrize("loss", ["nnunet", "fganet"])
@pytest.mark.parametrize("name", ["unet", "unetplusplus", "cenet", "deeplabv3plus", "nnunet_resenc", "fganet"])
def test_steps_lower_the_loss(nnunet, name, loss):
    trainer = make(nnunet, name, loss)
    trainer.network.train()
    losses = [float(trainer.train_step(batch(trainer))["loss"]) for _ in range(6)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    trainer.network.eval()
    with torch.no_grad():
        validation = trainer.validation_step(batch(trainer))
    assert validation["tp_hard"] + validation["fn_hard"] == 2 * 2 * 45


@pytest.mark.parametrize("loss", ["nnunet", "fganet"])
def test_plain_labels(nnunet, loss):
    trainer = make(nnunet, "unet", loss, dataset=PLAIN)
    assert float(trainer.train_step(batch(trainer))["loss"]) > -1
    assert trainer.network(torch.zeros(2, 1, SIZE, SIZE)).shape[1] == 2


def test_targets_are_as_many_as_outputs(nnunet):
    assert make(nnunet, "unet")._get_deep_supervision_scales() is None
    assert make(nnunet, "unetplusplus")._get_deep_supervision_scales() == [[1, 1]] * 4
    assert make(nnunet, "nnunet")._get_deep_supervision_scales() == [[0.5**i] * 2 for i in range(4)]
    assert make(nnunet, "nnunet", "fganet")._get_deep_supervision_scales() == [[1.0, 1.0]]


def test_the_loss_is_nnunets_or_ours(nnunet):
    assert isinstance(make(nnunet, "nnunet").loss, DeepSupervisionWrapper)
    assert not isinstance(make(nnunet, "unet").loss, DeepSupervisionWrapper)
    ours = make(nnunet, "unet", "fganet").loss.loss
    assert isinstance(ours, FGANetLoss)
    assert (ours.regions, ours.skeleton_iterations, ours.stage_weights) == (True, 3, None)
    assert make(nnunet, "fganet", "fganet").loss.loss.stage_weights == (1, 0.5, 0.25)


def test_optimizer_and_schedule_are_nnunets_with_either_loss(nnunet):
    groups = [make(nnunet, "unet", loss).optimizer.param_groups[0] for loss in ("nnunet", "fganet")]
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in groups] == [(0.01, 0.99, 3e-5)] * 2


def test_outputs_of_lower_resolution_are_compared_with_the_whole_label():
    torch.manual_seed(0)
    plain = FGANetLoss(regions=True, skeleton_iterations=3)
    label = torch.zeros(1, 1, 32, 32)
    label[:, :, 10, 4:28] = 1
    low = torch.randn(1, 1, 16, 16)
    up = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)(low)
    high = torch.randn(1, 1, 32, 32)
    assert FullResolutionLoss(plain)([high, low], [label]) == plain([high, up], [label])
    assert FullResolutionLoss(plain)(high, label) == plain(high, label)


class _StartedError(Exception):
    pass


@pytest.fixture
def stops_when_training_starts(monkeypatch):
    from nnunet_fganet.training.budget_trainer import BudgetTrainer

    def started(_trainer):
        raise _StartedError

    monkeypatch.setattr(BudgetTrainer, "on_train_start", started)


def test_encoder_weights_are_loaded_when_a_training_starts(nnunet, tmp_path, stops_when_training_starts):
    file = tmp_path / "weights.pth"
    source = make(nnunet, "cenet").network.encoder
    with torch.no_grad():
        source.conv1.weight.fill_(0.5)
    torch.save(source.state_dict(), file)
    trainer = make(nnunet, "cenet", encoder_weights={"cenet": file})
    assert trainer.network.encoder.conv1.weight.max() != 0.5
    with pytest.raises(_StartedError):
        trainer.on_train_start()
    assert torch.equal(trainer.network.encoder.conv1.weight, source.conv1.weight)


def test_encoder_weights_are_not_needed_afterwards(nnunet, tmp_path, stops_when_training_starts):
    """A training that goes on, and prediction, do without the file; a new training names it."""
    file = tmp_path / "weights.pth"
    file.touch()
    trainer = make(nnunet, "cenet", encoder_weights={"cenet": file})
    file.unlink()
    plans_manager, configuration = trainer.plans_manager, trainer.configuration_manager
    trainer.build_network_architecture(plans_manager, configuration, 1, 1, enable_deep_supervision=False)
    trainer.current_epoch = 1
    with pytest.raises(_StartedError):
        trainer.on_train_start()
    trainer.current_epoch = 0
    with pytest.raises(InputError, match=str(file)):
        trainer.on_train_start()


def test_plans_survive_json(nnunet):
    configurations = comparator_configurations(PLANS, REGION, ["deeplabv3plus", "unetplusplus"])
    assert json.loads(json.dumps(configurations)) == configurations
