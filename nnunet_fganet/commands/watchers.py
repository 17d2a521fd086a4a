"""Short lines for the terminal from what nnU-Net writes while it trains and predicts."""

import math
import re
from statistics import fmean

EPOCH = re.compile(r"Epoch (\d+)\s*$")
TRAINING_LOSS = re.compile(r"train_loss (\S+)")
DICE = re.compile(r"Pseudo dice \[(.*)\]")
DICE_OF_CLASS = re.compile(r"(?<![\w.])(?:nan|\d+(?:\.\d*)?(?:e[+-]?\d+)?)")  # in "np.float32(1e-04)" the second number
SECONDS = re.compile(r"Epoch time: ([\d.]+) s")
PREDICTED = re.compile(r"done with \S+$")


class EpochWatcher:
    """Turns nnU-Net's lines into one short line an epoch, with the time that is left.

    Parameters
    ----------
    epochs
        Epochs of the whole training.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._epoch = 0
        self._loss = self._dice = math.nan
        self._seconds: list[float] = []

    @property
    def epochs_done(self) -> int:
        """Number of epochs that have ended, those of an earlier start included."""
        return self._epoch + 1

    @property
    def last_seconds(self) -> float:
        """Duration of the last epoch."""
        return self._seconds[-1]

    def __call__(self, line: str) -> str | None:
        """Take one line of the log; returns a summary with the last line of an epoch, else None."""
        if match := EPOCH.search(line):
            self._epoch = int(match[1])
        elif match := TRAINING_LOSS.search(line):
            self._loss = float(match[1])
        elif match := DICE.search(line):
            self._dice = _mean_of_classes(match[1])
        elif match := SECONDS.search(line):
            self._seconds.append(float(match[1]))
            return self._summary()
        return None

    def _summary(self) -> str:
        mean_seconds = sum(self._seconds) / len(self._seconds)
        left = mean_seconds * (self.epochs - 1 - self._epoch)
        return (
            f"epoch {self._epoch + 1:>3}/{self.epochs}   loss {self._loss:7.4f}   "
            f"validation Dice {self._dice:6.4f}   {self._seconds[-1]:5.1f} s   "
            f"about {left / 60:.1f} min left"
        )


def _mean_of_classes(listed: str) -> float:
    """Mean as nnU-Net takes it, over the classes that have a value; not a number where none has."""
    values = [float(number) for number in DICE_OF_CLASS.findall(listed) if number != "nan"]
    return fmean(values) if values else math.nan


class FrameWatcher:
    """Counts the frames that ``nnUNetv2_predict`` has predicted.

    Parameters
    ----------
    every
        Frames between two lines.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._done = 0

    def __call__(self, line: str) -> str | None:
        """Take one line of the log; returns a count now and then, else None."""
        if not PREDICTED.search(line):
            return None
        self._done += 1
        return f"{self._done} frames" if self._done % self.every == 0 else None


def keep_silent(line: str) -> None:
    """Show nothing: the line goes to the log file only."""
