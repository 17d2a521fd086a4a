"""nnU-Net's trainer with FGA-Net, its loss and its schedule."""

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch._dynamo import OptimizedModule

from nnunet_fganet.allocator import keep_freed_memory
from nnunet_fganet.inference.automatic import AutomaticInference
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.precision import compute_dtypes
from nnunet_fganet.training.budget_trainer import BudgetTrainer
from nnunet_fganet.training.schedule import CosineSchedule
from nnunet_fganet.training.settings import DEFAULT_NETWORK, TrainingSettings
from nnunet_fganet.training.sgd import make_sgd

FGANET_CLASS_NAME = "nnunet_fganet.network.fganet.FGANet"


class nnUNetTrainerFGANet(BudgetTrainer):
    """Trains FGA-Net: SGD, cosine annealing to zero over all epochs, Dice + clDice + cross-entropy.

    With plans of ``fganet plan`` the network and all settings come from the plans; with stock plans
    the released network without dropout and the defaults of
    :class:`nnunet_fganet.training.settings.TrainingSettings` are used, on the patch and batch of the plans.
    """

    network: nn.Module  # None, to nnU-Net's own annotations, until it is built

    def initialize(self) -> None:
        """Take the optimizer's settings from the plans, then set up as nnU-Net does."""
        self.initial_lr = self._initial_learning_rate()
        self.weight_decay = self.settings.weight_decay
        if self.device.type == "cpu":
            keep_freed_memory()
        super().initialize()

    def _initial_learning_rate(self) -> float:
        return self.settings.learning_rate

    def _epochs_to_zero(self) -> int:
        """Epochs from the initial learning rate to zero."""
        return self.num_epochs

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build FGA-Net; nnU-Net calls this for training and for prediction.

        Raises
        ------
        NotImplementedError
            The configuration is not two-dimensional.
        """
        if len(configuration_manager.patch_size) != 2:
            raise NotImplementedError("FGA-Net is a network for two-dimensional frames: use the configuration 2d")
        from_plans = configuration_manager.network_arch_class_name == FGANET_CLASS_NAME
        network = get_network_from_plans(
            FGANET_CLASS_NAME,
            configuration_manager.network_arch_init_kwargs if from_plans else dict(DEFAULT_NETWORK),
            [],
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )
        settings = TrainingSettings.from_configuration(configuration_manager.configuration)
        network.compute_dtypes = compute_dtypes(settings.precision)
        network.inference = AutomaticInference()
        return network.to(memory_format=torch.channels_last)  # so compute convolutions soonest

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, CosineSchedule]:
        """SGD with Nesterov momentum, and a cosine schedule."""
        optimizer = make_sgd(
            self.network.parameters(), self.device, self.initial_lr, self.settings.momentum, self.weight_decay
        )
        return optimizer, CosineSchedule(optimizer, self.initial_lr, self._epochs_to_zero())

    def _build_loss(self) -> FGANetLoss:
        return self._build_fganet_loss()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate whole frames by the prepared network, as ``nnUNetv2_predict`` does.

        A compiled network would be compiled anew for it, which takes longer than most validations.
        """
        trained = self.network
        if isinstance(trained, OptimizedModule):
            self.network = trained._orig_mod
        try:
            super().perform_actual_validation(save_probabilities)
        finally:
            self.network = trained

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        # All six outputs have full resolution, so the loss needs the label once.
        return [[1.0, 1.0]] if self.enable_deep_supervision else None


class nnUNetTrainerFGANetPaperSchedule(nnUNetTrainerFGANet):
    """The schedule as the paper prints it: learning rate 1e-8, ``CosineAnnealingLR`` with ``T_max`` 50.

    The rate is zero at epochs 50 and 150 and back at its maximum at epoch 100. So small a rate
    leaves the weights nearly as they were drawn; this trainer is here to show that.
    """

    def _initial_learning_rate(self) -> float:
        return 1e-8

    def _epochs_to_zero(self) -> int:
        return 50
