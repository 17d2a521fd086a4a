"""How long the trainings of a comparison still take, from those measured so far."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from nnunet_fganet.commands.watchers import EPOCH, SECONDS, EpochWatcher

PREDICTING = re.compile(r"predicting \S+$")


def time_left(
    epochs_left: Sequence[tuple[str, int]], measured: Mapping[str, Sequence[float]], beside: Sequence[float] = ()
) -> float | None:
    """Seconds that trainings still take.

    Parameters
    ----------
    epochs_left
        Name of the entry and number of epochs that it has still to train, for each run.
    measured
        Durations of epochs by the name of the entry. An entry without any is taken to be as slow as the others are
        on average.
    beside
        What finished trainings took beside their epochs: start of the processes, checkpoints, validation. Each run
        that is left is taken to need as much on average; nothing where none is finished yet.

    Returns
    -------
    seconds
        None before the first epoch of all.
    """
    means = {name: fmean(seconds) for name, seconds in measured.items() if seconds}
    if not means:
        return None
    typical = fmean(means.values())
    for_epochs = sum(epochs * means.get(name, typical) for name, epochs in epochs_left)
    return for_epochs + len(epochs_left) * (fmean(beside) if beside else 0)


def logged_epochs(lines: Iterable[str]) -> int:
    """Number of epochs that a training has ended, those of earlier starts included, by the lines of its log."""
    epoch = done = 0
    for line in lines:
        if match := EPOCH.search(line):
            epoch = int(match[1])
        elif SECONDS.search(line):
            done = epoch + 1
    return done


def duration(seconds: float) -> str:
    """A duration as one reads it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class RunWatcher:
    """Short lines for the terminal from one training of several.

    Parameters
    ----------
    epochs
        Epochs of the training.
    all_left
        Seconds that all trainings still take, this one included, from the number of this training's last finished
        epoch (from 1) and the duration of its last one.
    """

    def __init__(self, epochs: int, all_left: Callable[[int, float], float | None]) -> None:
        self._epochs = EpochWatcher(epochs)
        self._all_left = all_left
        self._predicting = False

    def __call__(self, line: str) -> str | None:
        """Take one line of the log; returns a summary with the last line of an epoch, else None."""
        if PREDICTING.search(line) and not self._predicting:
            self._predicting = True
            return "predicting the validation frames"
        summary = self._epochs(line)
        if summary is None:
            return None
        left = self._all_left(self._epochs.epochs_done, self._epochs.last_seconds)
        return summary if left is None else f"{summary}; all trainings: {duration(left)}"
