"""The networks that FGA-Net is compared with, under the budget of our plans."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn import functional

from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.precision import compute_dtypes
from nnunet_fganet.training.budget_trainer import DEVICE, BudgetTrainer


class nnUNetTrainerComparator(BudgetTrainer):
    """nnU-Net's own loss, optimizer and augmentation for any network; budget and precision from the plans.

    nnU-Net's trainer fixes its iterations in the constructor and computes in float32 on CPUs; a
    comparison on equal terms needs both as FGA-Net has them. On GPUs nnU-Net's mixed precision is
    part of its training step: other precisions are for FGA-Net alone there. With ``comparator_loss``
    ``fganet`` in the plans only the loss is ours. A network has several outputs where its
    ``arch_kwargs`` in the plans name ``strides``, which is how nnU-Net tells them.

    Raises
    ------
    NotImplementedError
        The plans ask for float32 or bfloat16 and the device is a GPU.
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
        self.enable_deep_supervision = "strides" in self.configuration_manager.network_arch_init_kwargs

    def initialize(self) -> None:
        """Check that this trainer can keep to the precision of the plans, then set up."""
        if self.device.type in compute_dtypes(self.settings.precision) and self.device.type != "cpu":
            raise NotImplementedError(
                "nnU-Net trains in its own mixed precision on GPUs: compare under plans with precision auto"
            )
        super().initialize()

    def on_train_start(self) -> None:
        """Start a training, from pretrained encoder weights if the plans name a file; or go on with one."""
        if self.current_epoch == 0 and self.settings.encoder_weights_file:
            # Here because of what only the extra "compare" installs.
            from nnunet_fganet.comparators.encoder_weights import load_encoder_weights

            if not self.was_initialized:
                self.initialize()
            load_encoder_weights(self._bare_network(), Path(self.settings.encoder_weights_file))
            self.print_to_log_file(f"Encoder weights: {self.settings.encoder_weights_file}")
        super().on_train_start()

    def train_step(self, batch: dict) -> dict:
        """One training step in the precision of the plans."""
        with self._precision():
            return super().train_step(batch)

    def validation_step(self, batch: dict) -> dict:
        """One validation step in the precision of the plans."""
        with self._precision():
            return super().validation_step(batch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate whole frames in the precision of the plans."""
        with self._precision():
            super().perform_actual_validation(save_probabilities)

    def _precision(self) -> AbstractContextManager:
        dtype = compute_dtypes(self.settings.precision).get("cpu", torch.float32)
        return torch.autocast("cpu", dtype, enabled=self.device.type == "cpu" and dtype != torch.float32)

    def _build_loss(self) -> nn.Module:
        if self.settings.comparator_loss == "nnunet":
            return super()._build_loss()
        return FullResolutionLoss(self._build_fganet_loss())

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        if self.settings.comparator_loss == "nnunet" or not self.enable_deep_supervision:
            return super()._get_deep_supervision_scales()
        return [[1.0, 1.0]]  # our loss wants the label once, at full resolution

    def _bare_network(self) -> nn.Module:
        """The network without what distributes and compiles it."""
        network = self.network.module if self.is_ddp else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network


class FullResolutionLoss(nn.Module):
    """FGA-Net's loss for outputs of any resolution: each is upsampled bilinearly, as FGA-Net upsamples its own.

    A wire of one to three pixels would not survive in labels of lower resolution.

    Parameters
    ----------
    loss
        Compares outputs of full resolution with the label.
    """

    def __init__(self, loss: FGANetLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, outputs: torch.Tensor | list[torch.Tensor], target: torch.Tensor | list[torch.Tensor]
    ) -> torch.Tensor:
        """Loss of one batch; see :meth:`nnunet_fganet.loss.fganet_loss.FGANetLoss.forward`."""
        if isinstance(outputs, torch.Tensor):
            return self.loss(outputs, target)
        size = outputs[0].shape[2:]
        full = [
            each if each.shape[2:] == size else functional.interpolate(each, size, mode="bilinear", align_corners=True)
            for each in outputs
        ]
        return self.loss(full, target)
