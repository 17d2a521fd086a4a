"""Cosine learning rate as a closed form of the epoch."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def cosine_learning_rate(initial: float, epoch: int, half_period: int) -> float:
    """``initial * (1 + cos(pi * epoch / half_period)) / 2``: zero after ``half_period`` epochs, and back after two."""
    return initial * (1 + math.cos(math.pi * epoch / half_period)) / 2


class CosineSchedule(LRScheduler):
    """Cosine annealing that nnU-Net can step to any epoch.

    nnU-Net stores no state of the schedule and calls ``step(epoch)``: as a closed form of the epoch
    the rate after a resumption is exactly that of a training that was never interrupted. (torch's
    ``CosineAnnealingLR`` computes each rate from the one before.)

    Parameters
    ----------
    optimizer
        Whose parameter groups get the rate.
    initial
        Learning rate at epoch 0.
    half_period
        Epochs from the initial rate to zero (``T_max`` of ``CosineAnnealingLR``).
    """

    def __init__(self, optimizer: Optimizer, initial: float, half_period: int) -> None:
        self.initial = initial
        self.half_period = half_period
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Set the rate of ``epoch`` (None: of the next one)."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        rate = cosine_learning_rate(self.initial, self.last_epoch, self.half_period)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._last_lr = [rate] * len(self.optimizer.param_groups)
