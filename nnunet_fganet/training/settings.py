"""What the plans say about training: ``configurations.2d.fganet``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from nnunet_fganet.precision import PRECISIONS

PLANS_KEY = "fganet"
# Of the network, where the plans do not say otherwise; docs/training.md has the measurement behind it.
DEFAULT_NETWORK: Mapping[str, Any] = MappingProxyType({"dropout": 0.0})
COMPARATOR_LOSSES = ("nnunet", "fganet")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; the field names are the keys in the plans.

    Parameters
    ----------
    epochs, iterations, validation_iterations
        Length: epochs, and training and validation batches an epoch.
    learning_rate, momentum, weight_decay
        Of SGD with Nesterov momentum; docs/training.md has the measurements behind them.
    alpha, skeleton_iterations, stage_weights, cross_entropy_weight
        See :class:`nnunet_fganet.loss.fganet_loss.FGANetLoss`.
    dice
        ``squared`` (paper) or ``linear`` (released code): the denominator of the soft Dice.
    precision
        See :func:`nnunet_fganet.precision.compute_dtypes`.
    save_every
        Epochs between two writings of ``checkpoint_latest.pth``.
    seed
        Of torch's, numpy's and Python's random numbers in the training process; None: other ones each time. It fixes
        the weights that the network starts from, and not the augmentation of nnU-Net's worker processes
        (docs/comparison.md).
    comparator_loss
        What ``nnUNetTrainerComparator`` trains with: ``nnunet``'s own loss, or ``fganet``'s.
    encoder_weights_file
        Pretrained weights that a new training of ``nnUNetTrainerComparator`` starts its encoder from.

    Raises
    ------
    ValueError
        A value is of another type, or outside its range.
    """

    epochs: int = 180
    iterations: int = 250
    validation_iterations: int = 50
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-5
    alpha: float = 0.25
    skeleton_iterations: int = 10
    stage_weights: tuple[float, ...] | None = None
    cross_entropy_weight: float = 1.0
    dice: str = "squared"
    precision: str = "auto"
    save_every: int = 1
    seed: int | None = None
    comparator_loss: str = "nnunet"
    encoder_weights_file: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, field.type, getattr(self, field.name))
        for name in ("epochs", "iterations", "validation_iterations", "save_every"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _check(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and below 1")
        _check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        _check(0 <= self.alpha < 1, "alpha", self.alpha, "at least 0 and below 1")
        _check(self.skeleton_iterations >= 1, "skeleton_iterations", self.skeleton_iterations, "at least 1")
        _check(self.cross_entropy_weight >= 0, "cross_entropy_weight", self.cross_entropy_weight, "at least 0")
        _check(self.seed is None or self.seed >= 0, "seed", self.seed, "at least 0")
        weights = self.stage_weights
        if weights is not None:
            _check(len(weights) > 0, "stage_weights", list(weights), "at least one")
            _check(
                min(weights) >= 0 and weights[0] > 0, "stage_weights", list(weights), "none below 0, the first above 0"
            )
        _check(self.dice in ("squared", "linear"), "dice", self.dice, "squared or linear")
        loss = self.comparator_loss
        _check(loss in COMPARATOR_LOSSES, "comparator_loss", loss, f"one of {', '.join(COMPARATOR_LOSSES)}")
        _check(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> "TrainingSettings":
        """Read a configuration of nnU-Net plans; stock plans, without our key, give the defaults.

        Raises
        ------
        ValueError
            The plans have a key that is not a setting, or a value outside its range.
        """
        given = dict(configuration.get(PLANS_KEY) or {})
        unknown = given.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"the plans have settings under {PLANS_KEY!r} that are not known: {', '.join(unknown)}")
        if isinstance(given.get("stage_weights"), list):
            given["stage_weights"] = tuple(given["stage_weights"])
        return cls(**given)


def _check_type(name: str, expected: Any, value: object) -> None:
    """Plans are edited by hand, and "10" epochs or 10.0 iterations of a loss would fail far from here."""
    if name == "stage_weights":
        is_numbers = isinstance(value, tuple) and all(_is_number(each) for each in value)
        _check(value is None or is_numbers, name, repr(value), "a list of numbers, all finite")
    elif expected is float:
        _check(_is_number(value), name, repr(value), "a finite number")
    else:
        kind = "an integer" if expected in (int, int | None) else "a text"
        _check(isinstance(value, expected) and not isinstance(value, bool), name, repr(value), kind)


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


def _check(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, not {value}")
