"""Stock nnU-Net under the budget of our plans, to compare with."""

from contextlib import AbstractContextManager

import torch

from nnunet_fganet.precision import compute_dtypes
from nnunet_fganet.training.budget_trainer import BudgetTrainer


class nnUNetTrainerComparator(BudgetTrainer):
    """nnU-Net's own network, loss, optimizer and augmentation; budget and precision from the plans.

    nnU-Net's trainer fixes its iterations in the constructor and computes in float32 on CPUs; a
    comparison on equal terms needs both as FGA-Net has them. On GPUs nnU-Net's mixed precision is
    part of its training step: other precisions are for FGA-Net alone there.

    Raises
    ------
    NotImplementedError
        The plans ask for float32 or bfloat16 and the device is a GPU.
    """

    def initialize(self) -> None:
        """Check that this trainer can keep to the precision of the plans, then set up."""
        if self.device.type in compute_dtypes(self.settings.precision) and self.device.type != "cpu":
            raise NotImplementedError(
                "nnU-Net trains in its own mixed precision on GPUs: compare under plans with precision auto"
            )
        super().initialize()

    def train_step(self, batch: dict) -> dict:
        """One training step in the precision of the plans."""
        with self._precision():
            return super().train_step(batch)

    def validation_step(self, batch: dict) -> dict:
        """One validation step in the precision of the plans."""
        with self._precision():
            return super().validation_step(batch)

    def _precision(self) -> AbstractContextManager:
        dtype = compute_dtypes(self.settings.precision).get("cpu", torch.float32)
        return torch.autocast("cpu", dtype, enabled=self.device.type == "cpu" and dtype != torch.float32)
