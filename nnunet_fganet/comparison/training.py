"""Runs the trainings of a comparison one after the other, with nnU-Net's own command in a fresh process each."""

import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_fganet.commands.running import WAITING_THREADS, run_command
from nnunet_fganet.commands.scripts import find_script
from nnunet_fganet.comparison.curves import kept_curves
from nnunet_fganet.comparison.progress import RunWatcher, duration, logged_epochs, time_left
from nnunet_fganet.comparison.runs import Run, RunFolder, State
from nnunet_fganet.errors import InputError

TRAIN = "nnUNetv2_train"
# nnU-Net's options that go on from where a run is.
_GOING_ON = {State.STARTED: ("--c",), State.TRAINED: ("--val",)}


@dataclass(frozen=True)
class Trainings:
    """Runs that are to be done.

    Attributes
    ----------
    folder
        Where they keep their files.
    runs
        In the order of training.
    frames
        Validation frames by fold.
    ending
        Of mask files.
    epochs
        Of each training.
    device
        ``cpu`` or ``cuda``.
    workers
        Processes that load, augment and write frames.
    """

    folder: RunFolder
    runs: Sequence[Run]
    frames: Mapping[int, Sequence[str]]
    ending: str
    epochs: int
    device: str
    workers: int

    def state(self, run: Run) -> State:
        """How far a run is."""
        return self.folder.state(run, self.frames[run.fold], self.ending)

    def epochs_left(self, run: Run) -> int:
        """How many epochs a run has still to train; of an interrupted one, by its log."""
        state, log = self.state(run), self.folder.log(run)
        if state in (State.TRAINED, State.DONE):
            return 0
        if state is State.NEW or not log.is_file():
            return self.epochs
        with log.open(encoding="utf-8", errors="replace") as lines:
            return max(self.epochs - logged_epochs(lines), 0)


@dataclass(frozen=True)
class Failure:
    """A training that ended with an error, or whose predictions cannot be measured."""

    run: Run
    why: str

    def __str__(self) -> str:
        """One sentence's part."""
        return f"{self.run.title}: {self.why}"


def failure_of_command(run: Run, code: int, log: Path) -> Failure:
    """Name the exit code of nnU-Net's command, and what its log ends with."""
    with log.open(encoding="utf-8", errors="replace") as file:
        written = deque((line.strip() for line in file if line.strip()), 1)
    last = written[0] if written else "nothing"
    return Failure(run, f"exit code {code}, see {log}, which ends with '{last}'")


def train_all(trainings: Trainings, keep_open: Sequence[int] = ()) -> list[Failure]:
    """Do what is not done yet; a run that fails does not stop the others.

    Parameters
    ----------
    trainings
        The runs.
    keep_open
        Open files that the commands share.

    Returns
    -------
    failures
        Of runs whose command ended with an error.
    """
    done = [run for run in trainings.runs if trainings.state(run) is State.DONE]
    seconds: dict[str, list[float]] = {}
    for run in done:
        seconds.setdefault(run.entry.name, []).extend(_curves_seconds(trainings, run))
    beside: list[float] = []
    pending = [run for run in trainings.runs if run not in done]
    if done:
        print(f"{len(done)} of {len(trainings.runs)} trainings are done already.")
    failures = []
    for index, run in enumerate(pending):
        left = time_left(_epochs_left(trainings, pending[index:]), seconds, beside)
        said = "" if left is None else f" (all trainings: about {duration(left)} left)"
        print(f"\n[{len(done) + index + 1}/{len(trainings.runs)}] {run.title}{said}", flush=True)
        state, started = trainings.state(run), time.monotonic()
        code = _train(trainings, run, pending[index + 1 :], seconds, beside, keep_open)
        if code == 0 and trainings.state(run) is State.DONE:
            took, epochs = time.monotonic() - started, _curves_seconds(trainings, run)
            seconds.setdefault(run.entry.name, []).extend(epochs)
            if state is State.NEW:  # the curves of others tell of epochs that were trained before
                beside.append(took - sum(epochs))
            print(f"      {duration(took)}", flush=True)
            continue
        failures.append(failure_of_command(run, code, trainings.folder.log(run)))
        print(f"      failed: {failures[-1]}", flush=True)
    return failures


def _train(
    trainings: Trainings,
    run: Run,
    others: Sequence[Run],
    seconds: Mapping[str, Sequence[float]],
    beside: Sequence[float],
    keep_open: Sequence[int],
) -> int:
    """Run nnU-Net's command until it ends; returns its exit code."""
    left_of_others = _epochs_left(trainings, others)

    def all_left(epochs_done: int, last: float) -> float | None:
        epochs_left = [(run.entry.name, trainings.epochs - epochs_done), *left_of_others]
        # This run's own speed counts for its entry: the machine may be busier or idler than it was.
        return time_left(epochs_left, {**seconds, run.entry.name: [last]}, beside)

    command = nnunet_command(trainings, run)
    print(f"      {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    watch = RunWatcher(trainings.epochs, all_left)
    return run_command(command, _environment(trainings), trainings.folder.log(run), watch, keep_open)


def _epochs_left(trainings: Trainings, runs: Sequence[Run]) -> list[tuple[str, int]]:
    """As :func:`nnunet_fganet.comparison.progress.time_left` takes them."""
    return [(run.entry.name, trainings.epochs_left(run)) for run in runs]


def nnunet_command(trainings: Trainings, run: Run) -> list[str]:
    """nnU-Net's command that does what is left of a run."""
    return [
        str(find_script(TRAIN)),
        *(trainings.folder.dataset, run.configuration, str(run.fold)),
        *("-tr", run.entry.trainer, "-p", trainings.folder.plans, "-device", trainings.device, "--npz"),
        *_GOING_ON.get(trainings.state(run), ()),
    ]


def _environment(trainings: Trainings) -> dict[str, str]:
    return {
        **os.environ,
        "nnUNet_results": str(trainings.folder.results),
        "nnUNet_def_n_proc": str(trainings.workers),
        "nnUNet_n_proc_DA": str(trainings.workers),
        **WAITING_THREADS,
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }


def _curves_seconds(trainings: Trainings, run: Run) -> list[float]:
    try:
        return kept_curves(trainings.folder.checkpoint(run), trainings.folder.curves(run)).seconds
    except InputError:  # of a damaged checkpoint, which is named when the run is measured
        return []
