"""The trainers in this process: settings, schedule, precision and checkpoints, without a training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from wire_dataset import DATASET_NAME

from nnunet_fganet.errors import InputError
from nnunet_fganet.network.dropout import Dropout
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.planning.planner import network_plan
from nnunet_fganet.training.budget_trainer import nnUNetTrainer
from nnunet_fganet.training.comparator import nnUNetTrainerComparator
from nnunet_fganet.training.fganet_trainer import nnUNetTrainerFGANet, nnUNetTrainerFGANetPaperSchedule

SIZE = 64
REGION = {"labels": {"background": 0, "guidewire": [1, 1]}, "regions_class_order": [1]}


def plans(architecture=None, **settings):
    configuration = {
        "data_identifier": "nnUNetFGANetPlans_2d",
        "batch_size": 2,
        "patch_size": [SIZE, SIZE],
        "batch_dice": True,
        "architecture": architecture or network_plan({"features_per_stage": [8, 16, 16]}),
        "fganet": settings,
    }
    return {
        "dataset_name": DATASET_NAME,
        "plans_name": "nnUNetFGANetPlans",
        "configurations": {"2d": configuration},
        "label_manager": "LabelManager",
        "continue_training": False,
    }


def make(trainer_class, nnunet, architecture=None, **settings):
    """A trainer that is ready for its first step."""
    preprocessed = nnunet.preprocessed / DATASET_NAME / "nnUNetFGANetPlans_2d"
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()  # by this name nnU-Net knows how frames are stored
    dataset = {"channel_names": {"0": "xray"}, "file_ending": ".png", **REGION}
    trainer = trainer_class(plans(architecture, **settings), "2d", 0, dataset, torch.device("cpu"))
    trainer.initialize()
    return trainer


def batch():
    torch.manual_seed(0)
    label = torch.zeros(2, 1, SIZE, SIZE)
    label[:, :, 30:32, 5:50] = 1
    return {"data": torch.randn(2, 1, SIZE, SIZE) - 2 * label, "target": [label]}


def test_settings_of_the_plans_reach_the_trainer(nnunet):
    settings = {"epochs": 7, "iterations": 5, "validation_iterations": 2, "save_every": 3}
    optimizer = {"learning_rate": 0.05, "momentum": 0.8, "weight_decay": 1e-3}
    trainer = make(
        nnUNetTrainerFGANet, nnunet, **settings, **optimizer, alpha=0.1, dice="linear", skeleton_iterations=4
    )
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (7, 5, 2)
    assert trainer.save_every == 3
    group = trainer.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.8, 1e-3)
    assert (trainer.loss.alpha, trainer.loss.squared_denominator, trainer.loss.skeleton_iterations) == (0.1, False, 4)
    assert trainer.loss.regions


def test_the_rate_anneals_to_zero_over_all_epochs(nnunet):
    trainer = make(nnUNetTrainerFGANet, nnunet, epochs=180, learning_rate=0.1)
    rates = []
    for epoch in range(181):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] == 0.1
    assert rates[90] == pytest.approx(0.05)
    assert rates[180] == pytest.approx(0)
    assert np.all(np.diff(rates) < 0)


def test_the_papers_literal_schedule(nnunet):
    trainer = make(nnUNetTrainerFGANetPaperSchedule, nnunet)
    rates = []
    for epoch in (0, 50, 100):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-8, 0, 1e-8], abs=1e-20)
    assert trainer.num_epochs == 180


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_in_both_precisions(nnunet, precision):
    trainer = make(nnUNetTrainerFGANet, nnunet, precision=precision, learning_rate=0.02, momentum=0.9)
    assert trainer.network.compute_dtypes["cpu"] == getattr(torch, precision)
    trainer.network.train()
    losses = [float(trainer.train_step(batch())["loss"]) for _ in range(8)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    trainer.network.eval()
    with torch.no_grad():
        validation = trainer.validation_step(batch())
    assert validation["tp_hard"].shape == (1,)
    assert validation["tp_hard"] + validation["fn_hard"] == 2 * 2 * 45


def weights(nnunet, trainer_class=nnUNetTrainerFGANet, **settings):
    return torch.cat([each.flatten() for each in make(trainer_class, nnunet, **settings).network.parameters()])


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerFGANet, nnUNetTrainerComparator])
def test_the_seed_fixes_the_weights_that_a_training_starts_from(nnunet, trainer_class):
    first = weights(nnunet, trainer_class, seed=3)
    assert torch.equal(weights(nnunet, trainer_class, seed=3), first)
    assert not torch.equal(weights(nnunet, trainer_class, seed=4), first)
    assert not torch.equal(weights(nnunet, trainer_class), weights(nnunet, trainer_class))  # without one


def test_a_training_that_goes_on_draws_other_numbers_than_at_its_beginning(nnunet, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", lambda trainer: torch.rand(3).tolist())
    trainer = make(nnUNetTrainerFGANet, nnunet, seed=3)
    drawn = []
    for trainer.current_epoch in (0, 0, 2):
        drawn.append(trainer.get_dataloaders())
    assert drawn[0] == drawn[1] != drawn[2]


def test_processes_of_one_training_draw_different_numbers(nnunet, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", lambda trainer: torch.rand(3).tolist())
    trainer = make(nnUNetTrainerFGANet, nnunet, seed=3)
    drawn = []
    for trainer.local_rank in (0, 1):
        drawn.append(trainer.get_dataloaders())
    assert drawn[0] != drawn[1]


def test_three_dimensional_plans_are_refused(nnunet):
    volumes = plans()
    volumes["configurations"]["2d"]["patch_size"] = [16, 64, 64]
    dataset = {"channel_names": {"0": "xray"}, "file_ending": ".png", **REGION}
    trainer = nnUNetTrainerFGANet(volumes, "2d", 0, dataset, torch.device("cpu"))
    with pytest.raises(NotImplementedError, match="two-dimensional"):
        trainer.initialize()


def test_unknown_setting_in_the_plans_is_named(nnunet):
    with pytest.raises(ValueError, match="learning_rat"):
        make(nnUNetTrainerFGANet, nnunet, learning_rat=1)


def test_stock_architecture_in_the_plans_gives_the_released_network(nnunet):
    stock = {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet", "arch_kwargs": {}}
    trainer = make(nnUNetTrainerFGANet, nnunet, architecture={**stock, "_kw_requires_import": []})
    assert isinstance(trainer.network, FGANet)
    assert trainer.network.state_dict().keys() == FGANet(1, 1).state_dict().keys()
    assert {module.p for module in trainer.network.modules() if isinstance(module, Dropout)} == {0}


def test_an_interrupted_save_leaves_the_old_checkpoint(nnunet, monkeypatch):
    trainer = make(nnUNetTrainerFGANet, nnunet)
    file = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    whole = file.read_bytes()

    def full_disk(_trainer, filename):
        Path(filename).write_bytes(whole[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nnUNetTrainer, "save_checkpoint", full_disk)
    with pytest.raises(OSError, match="No space"):
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == whole


def write_plans(trainer):
    """What is of interest here of nnU-Net's start."""
    (Path(trainer.output_folder_base) / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))


def fail(trainer):
    raise RuntimeError("out of memory")


def start_beside(nnunet, monkeypatch, folder, nnunets_start=write_plans, **changes):
    """Begin fold 0 where ``folder`` has a checkpoint and the model's plans have ``changes``; returns fold 0."""
    trainer = make(nnUNetTrainerFGANet, nnunet)
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", nnunets_start)
    model, earlier = Path(trainer.output_folder_base), plans()
    earlier["configurations"]["2d"] |= changes
    (model / folder).mkdir(parents=True, exist_ok=True)
    (model / folder / "checkpoint_final.pth").write_text("weights")
    (model / "plans.json").write_text(json.dumps(earlier))
    trainer.on_train_start()
    return model / "fold_0", earlier


@pytest.mark.parametrize("changes", [{"architecture": network_plan({"norm": "instance"})}, {"patch_size": [32, 32]}])
def test_other_folds_keep_the_plans_that_they_were_trained_with(nnunet, monkeypatch, changes):
    with pytest.raises(InputError, match=r"fold_1 in .* were trained with other plans .*--plans-name"):
        start_beside(nnunet, monkeypatch, "fold_1", **changes)
    start_beside(nnunet, monkeypatch, "fold_1", batch_size=3, fganet={"epochs": 9})


def test_plans_that_were_cut_off_are_written_anew(nnunet, monkeypatch):
    fold, _ = start_beside(nnunet, monkeypatch, "fold_1")
    (fold.parent / "plans.json").write_text("{")
    make(nnUNetTrainerFGANet, nnunet).on_train_start()
    assert json.loads((fold.parent / "plans.json").read_text())["configurations"] == plans()["configurations"]


def test_a_start_that_fails_moves_nothing(nnunet, monkeypatch):
    with pytest.raises(RuntimeError, match="out of memory"):
        start_beside(nnunet, monkeypatch, "fold_0", fail)
    [checkpoint] = (nnunet.results / DATASET_NAME).glob("*/fold_0/**/checkpoint_final.pth")
    assert checkpoint.parent.name == "fold_0"


def test_an_earlier_training_is_moved_aside_with_its_plans(nnunet, monkeypatch):
    fold, earlier = start_beside(nnunet, monkeypatch, "fold_0", patch_size=[32, 32])
    [aside] = fold.glob("earlier_*")
    assert {file.name for file in aside.iterdir()} == {"checkpoint_final.pth", "plans.json"}
    assert json.loads((aside / "plans.json").read_text()) == earlier
    assert json.loads((fold.parent / "plans.json").read_text())["configurations"] == plans()["configurations"]
    assert not list(fold.glob("*.pth"))


def test_a_checkpoint_of_another_network_is_named(nnunet):
    trainer = make(nnUNetTrainerFGANet, nnunet)
    file = str(Path(trainer.output_folder) / "checkpoint_latest.pth")
    trainer.save_checkpoint(file)
    other = make(nnUNetTrainerFGANet, nnunet, network_plan({"features_per_stage": [8, 8, 8]}))
    with pytest.raises(InputError, match=r"checkpoint_latest.pth is of another network .* train without --c"):
        other.load_checkpoint(file)


def test_optimizer_state_survives_a_checkpoint(nnunet):
    trainer = make(nnUNetTrainerFGANet, nnunet)
    trainer.network.train()
    trainer.train_step(batch())
    file = str(Path(trainer.output_folder) / "checkpoint_latest.pth")
    trainer.save_checkpoint(file)
    resumed = make(nnUNetTrainerFGANet, nnunet)
    resumed.load_checkpoint(file)
    assert resumed.current_epoch == trainer.current_epoch + 1
    for ours, theirs in zip(resumed.optimizer.state.values(), trainer.optimizer.state.values(), strict=True):
        assert torch.equal(ours["momentum_buffer"], theirs["momentum_buffer"])


def test_an_update_is_that_of_plain_sgd_before_and_after_a_checkpoint(nnunet):
    """A fused update goes through memory: weights, gradients and momentum must have one layout."""
    trainer = make(nnUNetTrainerFGANet, nnunet, precision="float32")
    weights = [torch.nn.Parameter(weight.detach().clone()) for weight in trainer.network.parameters()]
    settings = {key: trainer.optimizer.param_groups[0][key] for key in ("lr", "momentum", "weight_decay", "nesterov")}
    plain = torch.optim.SGD(weights, **settings, fused=False)
    for _ in range(2):
        trainer.network.train()
        assert trainer.optimizer.param_groups[0]["fused"]
        for _ in range(2):
            trainer.train_step(batch())
            for weight, ours in zip(weights, trainer.network.parameters(), strict=True):
                weight.grad = None if ours.grad is None else ours.grad.clone()
            plain.step()
            for weight, ours in zip(weights, trainer.network.parameters(), strict=True):
                torch.testing.assert_close(ours.detach(), weight.detach())
        file = str(Path(trainer.output_folder) / "checkpoint_latest.pth")
        trainer.save_checkpoint(file)
        trainer = make(nnUNetTrainerFGANet, nnunet, precision="float32")
        trainer.load_checkpoint(file)


def test_a_checkpoint_of_a_plain_update_can_be_continued(nnunet):
    trainer = make(nnUNetTrainerFGANet, nnunet, precision="float32")
    trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), 0.1, momentum=0.9, nesterov=True)
    trainer.network.train()
    trainer.train_step(batch())
    file = str(Path(trainer.output_folder) / "checkpoint_latest.pth")
    trainer.save_checkpoint(file)
    resumed = make(nnUNetTrainerFGANet, nnunet, precision="float32")
    resumed.load_checkpoint(file)
    resumed.network.train()
    for each in (trainer, resumed):
        each.train_step(batch())
    for ours, theirs in zip(resumed.network.parameters(), trainer.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_training_that_was_killed_before_it_wrote_its_best_epoch_gets_it(nnunet):
    """nnU-Net writes the latest checkpoint, then the best one."""
    trainer = make(nnUNetTrainerFGANet, nnunet)
    latest, best = (Path(trainer.output_folder) / f"checkpoint_{name}.pth" for name in ("latest", "best"))
    for epoch, dice in enumerate((0.5, 0.7)):
        trainer.current_epoch = epoch
        trainer.logger.log("mean_fg_dice", dice, epoch)
        if epoch == 0:
            trainer.save_checkpoint(str(best))
    trainer.save_checkpoint(str(latest))
    make(nnUNetTrainerFGANet, nnunet).load_checkpoint(str(latest))
    assert torch.load(best, weights_only=False)["current_epoch"] == 2
    assert not list(best.parent.glob("*.partial"))
    written = best.stat().st_mtime_ns
    make(nnUNetTrainerFGANet, nnunet).load_checkpoint(str(latest))
    assert best.stat().st_mtime_ns == written


def test_without_deep_supervision_there_is_one_target(nnunet):
    trainer = make(nnUNetTrainerFGANet, nnunet)
    assert trainer._get_deep_supervision_scales() == [[1.0, 1.0]]
    trainer.enable_deep_supervision = False
    assert trainer._get_deep_supervision_scales() is None


def test_a_continued_training_knows_the_best_epoch(nnunet):
    """nnU-Net writes the latest checkpoint before it notes a new best."""
    trainer = make(nnUNetTrainerFGANet, nnunet)
    trainer.logger.log("mean_fg_dice", 0.7, 0)
    trainer._best_ema = 0.5  # as nnU-Net has it while it writes
    file = str(Path(trainer.output_folder) / "checkpoint_latest.pth")
    trainer.save_checkpoint(file)
    resumed = make(nnUNetTrainerFGANet, nnunet)
    resumed.load_checkpoint(file)
    assert resumed._best_ema == 0.7


def test_comparator_refuses_a_precision_that_it_cannot_keep_on_a_gpu(nnunet):
    trainer = make(nnUNetTrainerComparator, nnunet, precision="bfloat16")
    trainer.was_initialized, trainer.device = False, torch.device("cuda")
    with pytest.raises(NotImplementedError, match="precision auto"):
        trainer.initialize()


def test_comparator_computes_in_the_precision_of_the_plans(nnunet):
    trainer = make(nnUNetTrainerComparator, nnunet, precision="bfloat16", epochs=5)
    assert trainer.num_epochs == 5
    with trainer._precision():
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    with make(nnUNetTrainerComparator, nnunet, precision="float32")._precision():
        assert not torch.is_autocast_enabled("cpu")


def test_comparator_validates_in_the_precision_of_the_plans(nnunet, monkeypatch):
    seen = []
    monkeypatch.setattr(
        nnUNetTrainer, "perform_actual_validation", lambda *_: seen.append(torch.is_autocast_enabled("cpu"))
    )
    for precision in ("bfloat16", "float32"):
        make(nnUNetTrainerComparator, nnunet, precision=precision).perform_actual_validation(True)
    assert seen == [True, False]
