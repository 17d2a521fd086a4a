"""What our trainers share: a budget from the plans, and checkpoints that nothing can damage."""

import json
import random
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_fganet.errors import InputError, is_of_another_network
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.planning.models import settings_of_prediction
from nnunet_fganet.training.settings import TrainingSettings

DEVICE = torch.device("cuda")  # as in the signature of nnU-Net's trainer
_BESIDE_THE_FOLDS = ("plans.json", "dataset.json")  # nnU-Net keeps them once for all folds


class BudgetTrainer(nnUNetTrainer):
    """nnU-Net's trainer with epochs, iterations, checkpoint interval, seed and FGA-Net's loss from the plans.

    Checkpoints are written beside and renamed, so that a killed training never leaves a truncated
    one; a new training moves those of an earlier one aside instead of overwriting them.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = DEVICE,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.settings = TrainingSettings.from_configuration(self.configuration_manager.configuration)
        self.num_epochs = self.settings.epochs
        self.num_iterations_per_epoch = self.settings.iterations
        self.num_val_iterations_per_epoch = self.settings.validation_iterations
        self.save_every = self.settings.save_every

    def initialize(self) -> None:
        """Seed the random numbers that the network's weights are drawn from, then set up as nnU-Net does."""
        self._seed()
        super().initialize()

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Seed again: no process repeats another one's draws, nor a training that goes on those of its beginning."""
        self._seed(1 + self.current_epoch, self.local_rank)
        return super().get_dataloaders()

    def on_train_start(self) -> None:
        """Start, or go on with, a training; a new one moves earlier checkpoints aside.

        Raises
        ------
        InputError
            Other folds were trained with plans that predict otherwise, and nnU-Net keeps one plans file for all folds.
        """
        writes = self.local_rank == 0 and not self.disable_checkpointing
        if writes:
            self._check_plans_of_other_folds()
        model = Path(self.output_folder_base)
        earlier = {name: file.read_bytes() for name in _BESIDE_THE_FOLDS if (file := model / name).is_file()}
        super().on_train_start()  # which replaces them, and may fail
        if writes and self.current_epoch == 0:
            self._move_earlier_checkpoints(earlier)

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Load a checkpoint, and know the best epoch so far.

        nnU-Net writes the latest checkpoint before it takes note of a new best epoch and writes that one; without
        this a continued training would overwrite ``checkpoint_best.pth`` with a worse network, or lack it where the
        training was killed between the two.

        Raises
        ------
        InputError
            It is of another network than that of the plans.
        """
        try:
            super().load_checkpoint(filename_or_checkpoint)
        except RuntimeError as error:
            if not is_of_another_network(error):
                raise
            what = filename_or_checkpoint if isinstance(filename_or_checkpoint, str) else "the checkpoint"
            raise InputError(
                f"{what} is of another network than the plans {self.plans_manager.plans_name} describe: train without "
                "--c, which moves it aside, or choose the plans that it was trained with."
            ) from None
        logged = self.logger.get_value("ema_fg_dice", step=None)
        if not logged:
            return
        self._best_ema = max(logged)
        if isinstance(filename_or_checkpoint, str) and logged[-1] == self._best_ema:
            self._keep_as_best(Path(filename_or_checkpoint))

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint beside ``filename`` and rename it."""
        partial = f"{filename}.partial"
        super().save_checkpoint(partial)
        if self.local_rank == 0 and not self.disable_checkpointing:
            Path(partial).replace(filename)

    def _seed(self, *more: int) -> None:
        """Seed this process from the plans' seed and ``more`` numbers; nothing happens without one in the plans."""
        if self.settings.seed is None:
            return
        state = int(np.random.SeedSequence([self.settings.seed, *more]).generate_state(1)[0])
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)

    def _build_fganet_loss(self) -> FGANetLoss:
        return FGANetLoss(
            regions=self.label_manager.has_regions,
            alpha=self.settings.alpha,
            skeleton_iterations=self.settings.skeleton_iterations,
            stage_weights=self.settings.stage_weights,
            cross_entropy_weight=self.settings.cross_entropy_weight,
            squared_denominator=self.settings.dice == "squared",
            per_image=not self.configuration_manager.batch_dice,
            ignore_label=self.label_manager.ignore_label,
            distributed=self.is_ddp,
        )

    def _keep_as_best(self, checkpoint: Path) -> None:
        """Copy the latest checkpoint, whose epoch is the best, where ``checkpoint_best.pth`` is of another epoch."""
        if checkpoint.name != "checkpoint_latest.pth" or self.local_rank != 0 or self.disable_checkpointing:
            return
        best = checkpoint.with_name("checkpoint_best.pth")
        if best.is_file():
            kept = torch.load(best, map_location="cpu", weights_only=False, mmap=True)
            if kept["current_epoch"] == self.current_epoch:
                return
        partial = best.with_name(f"{best.name}.partial")
        shutil.copyfile(checkpoint, partial)
        partial.replace(best)

    def _check_plans_of_other_folds(self) -> None:
        model, own = Path(self.output_folder_base), Path(self.output_folder)
        others = sorted({file.parent.name for file in model.glob("fold_*/checkpoint_*.pth") if file.parent != own})
        try:
            theirs = json.loads((model / "plans.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing, or another fold begins just now: nnU-Net writes it anew
            return
        name = self.configuration_name
        if others and settings_of_prediction(theirs, name) != settings_of_prediction(self.plans_manager.plans, name):
            raise InputError(
                f"{', '.join(others)} in {model} were trained with other plans of this name and would predict no more: "
                f"plan with another --plans-name, or move {model} away."
            )

    def _move_earlier_checkpoints(self, beside: dict[str, bytes]) -> None:
        """Move checkpoints of an earlier training into a folder of their own, with what lay ``beside`` its fold."""
        folder = Path(self.output_folder)
        earlier = sorted(folder.glob("checkpoint_*.pth"))
        if not earlier:
            return
        aside = folder / f"earlier_{datetime.now():%Y-%m-%d_%H-%M-%S}"
        aside.mkdir()
        for name, content in beside.items():
            (aside / name).write_bytes(content)
        for checkpoint in earlier:
            checkpoint.rename(aside / checkpoint.name)
        self.print_to_log_file(f"Checkpoints of an earlier training moved to {aside} (--c would have continued it).")
