"""The curves of a training, and whether its loss has become flat."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch

from nnunet_fganet.errors import InputError, is_lack_of_memory
from nnunet_fganet.files import written_beside

LAST_PART = 5  # the last fifth of a curve is judged
FEWEST_EPOCHS = 3  # of that part: a line through two points fits always
LARGEST_FALL = 0.02  # of the whole training's fall: an exponential decay after four of its time constants
LARGEST_RISE = 0.05  # of the same: below that a rise is the noise of single epochs


@dataclass(frozen=True)
class Curves:
    """One value for each epoch.

    Attributes
    ----------
    train_loss, validation_loss
        Means over the epoch's batches.
    pseudo_dice
        nnU-Net's Dice of the validation batches, mean of the classes.
    learning_rate
        Of the optimizer.
    seconds
        Duration.
    """

    train_loss: list[float]
    validation_loss: list[float]
    pseudo_dice: list[float]
    learning_rate: list[float]
    seconds: list[float]


@dataclass(frozen=True)
class Flatness:
    """Whether a training had ended by itself when its budget did.

    Attributes
    ----------
    fall
        How much the loss fell in the last fifth of the epochs, as a share of its whole fall; None where that cannot be
        said.
    is_flat
        Whether that is at most 2 %, and it did not rise by more than 5 %.
    verdict
        The same in words.
    """

    fall: float | None
    is_flat: bool
    verdict: str


def flatness(train_loss: Sequence[float]) -> Flatness:
    """Judge a training's loss curve.

    The fall in the last fifth of the epochs is that of a straight line through them (least squares), which a single
    noisy epoch moves little. The whole fall is from the first epoch to the mean of that last fifth. Losses of
    different networks differ in scale and may be negative, hence the share.
    """
    losses = np.asarray(train_loss, dtype=np.float64)
    epochs = len(losses) // LAST_PART
    if epochs < FEWEST_EPOCHS:
        return Flatness(None, False, f"too short to tell (fewer than {LAST_PART * FEWEST_EPOCHS} epochs)")
    last = losses[-epochs:]
    whole = losses[0] - last.mean()
    if not np.isfinite(losses).all() or whole <= 0:
        return Flatness(None, False, "never fell")
    slope = np.polyfit(np.arange(epochs), last, 1)[0]
    fall = float(-slope * epochs / whole)
    if fall > LARGEST_FALL:
        return Flatness(fall, False, "still falling")
    if fall < -LARGEST_RISE:
        return Flatness(fall, False, "rising")
    return Flatness(fall, True, "flat")


def read_curves(checkpoint: Path) -> Curves:
    """Read the curves that nnU-Net keeps in every checkpoint.

    Raises
    ------
    InputError
        The file is damaged.
    """
    try:
        logged = torch.load(checkpoint, map_location="cpu", weights_only=False)["logging"]
    except (EOFError, KeyError, OSError, RuntimeError, TypeError, UnpicklingError) as error:
        if is_lack_of_memory(error):
            raise
        raise InputError(f"{checkpoint} cannot be read: it is damaged.") from error
    ends, starts = logged["epoch_end_timestamps"], logged["epoch_start_timestamps"]
    return Curves(
        train_loss=[float(value) for value in logged["train_losses"]],
        validation_loss=[float(value) for value in logged["val_losses"]],
        pseudo_dice=[float(value) for value in logged["mean_fg_dice"]],
        learning_rate=[float(value) for value in logged["lrs"]],
        seconds=[float(end - start) for end, start in zip(ends, starts, strict=False)],
    )


def kept_curves(checkpoint: Path, file: Path) -> Curves:
    """Curves of a finished training, from ``file`` where they were kept: checkpoints are large.

    A file that is older than the checkpoint is of an earlier training, and is written anew.
    """
    try:
        if file.stat().st_mtime_ns >= checkpoint.stat().st_mtime_ns:
            return Curves(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not kept yet
        pass
    curves = read_curves(checkpoint)
    with written_beside(file, overwrite=True) as partial:
        partial.write_text(json.dumps(asdict(curves)) + "\n", encoding="utf-8")
    return curves
