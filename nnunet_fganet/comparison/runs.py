"""The trainings of a comparison, where each keeps its files, and how far it is."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nnunet_fganet.comparison.entries import Entry, seeded_configuration


@dataclass(frozen=True)
class Run:
    """One training: an entry, a fold, a seed."""

    entry: Entry
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """Names its files."""
        return f"{self.entry.name}_fold{self.fold}_seed{self.seed}"

    @property
    def title(self) -> str:
        """Name for the terminal."""
        return f"{self.entry.title}, fold {self.fold}, seed {self.seed}"

    @property
    def configuration(self) -> str:
        """nnU-Net's ``-c``."""
        return seeded_configuration(self.entry, self.seed)


class State(Enum):
    """How far a run is."""

    NEW = "new"
    STARTED = "started"
    TRAINED = "trained"
    DONE = "done"


@dataclass(frozen=True)
class RunFolder:
    """Where a comparison keeps its files; ``docs/comparison.md`` lists them.

    Attributes
    ----------
    root
        The folder that the user named.
    dataset
        ``Dataset501_TCGSeg``.
    plans
        Name of the comparison's own plans: nnU-Net's ``-p``.
    """

    root: Path
    dataset: str
    plans: str

    @property
    def results(self) -> Path:
        """nnU-Net's ``nnUNet_results``."""
        return self.root / "results"

    @property
    def costs(self) -> Path:
        """What each network costs."""
        return self.root / "costs.json"

    def model(self, run: Run) -> Path:
        """nnU-Net's folder of a trained configuration, with all of its folds."""
        return self.results / self.dataset / f"{run.entry.trainer}__{self.plans}__{run.configuration}"

    def fold(self, run: Run) -> Path:
        """nnU-Net's folder of one training."""
        return self.model(run) / f"fold_{run.fold}"

    def checkpoint(self, run: Run) -> Path:
        """Weights of the last epoch."""
        return self.fold(run) / "checkpoint_final.pth"

    def validation(self, run: Run) -> Path:
        """Predictions of the fold's validation frames."""
        return self.fold(run) / "validation"

    def log(self, run: Run) -> Path:
        """All that the training wrote to the terminal."""
        return self.root / "logs" / f"{run.name}.log"

    def curves(self, run: Run) -> Path:
        """Curves of the training."""
        return self.root / "curves" / f"{run.name}.json"

    def state(self, run: Run, frames: Sequence[str], ending: str) -> State:
        """How far a run is, by its files.

        Parameters
        ----------
        run
            The run.
        frames
            Validation frames of its fold.
        ending
            Of mask files, ``.png``.
        """
        if self.checkpoint(run).is_file():
            complete = _is_complete(self.validation(run), frames, ending)
            return State.DONE if complete else State.TRAINED
        checkpoints = (self.fold(run) / f"checkpoint_{name}.pth" for name in ("latest", "best"))
        return State.STARTED if any(checkpoint.is_file() for checkpoint in checkpoints) else State.NEW


def _is_complete(validation: Path, frames: Sequence[str], ending: str) -> bool:
    """Whether nnU-Net ended its validation: it writes the summary last, when all frames are there."""
    try:
        json.loads((validation / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(
        (validation / f"{case}{ending}").is_file() and zipfile.is_zipfile(validation / f"{case}.npz") for case in frames
    )


def runs_of(entries: Sequence[Entry], folds: Sequence[int], seeds: Sequence[int]) -> list[Run]:
    """All runs: every entry once before the next fold, so that an early end leaves whole comparisons."""
    return [Run(entry, fold, seed) for seed in seeds for fold in folds for entry in entries]
