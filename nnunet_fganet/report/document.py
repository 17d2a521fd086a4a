"""What a run folder holds: the summary of ``fganet compare`` and ``fganet ablate``, and the files that it names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_fganet.comparison.record import RECORD_FILE
from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.record import find_record, records_of
from nnunet_fganet.frames.names import split_at_last_number
from nnunet_fganet.report.layout import first_lacking

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Prediction:
    """One class of one frame, as one training predicted it.

    Attributes
    ----------
    entry
        Number of the table's row.
    run
        What the summary says of the training.
    figures
        What it says of the frame: its figures by key, None where there is nothing to measure.
    """

    entry: int
    run: Mapping[str, Any]
    figures: Mapping[str, Any]

    @property
    def case(self) -> str:
        """Name of the frame."""
        return self.figures["case"]

    @property
    def wire_class(self) -> str:
        """Name of the class."""
        return self.figures["class"]

    @property
    def dice(self) -> float:
        """Dice of the frame."""
        return self.figures["dice"]

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.run["seed"]

    @property
    def has_wire(self) -> bool:
        """Whether the label has a pixel of the class."""
        return self.figures["true_positive"] + self.figures["false_negative"] > 0


@dataclass(frozen=True)
class RunDocument:
    """A run folder.

    Attributes
    ----------
    root
        The folder.
    summary
        Content of its ``summary.json``.
    predictions
        In the order of the summary: by entry, run, class and frame.
    sequences
        Sequence of each frame by its name.
    """

    root: Path
    summary: Mapping[str, Any]
    predictions: list[Prediction]
    sequences: dict[str, str]

    @property
    def titles(self) -> list[str]:
        """What the rows of the table are called."""
        return [entry["title"] for entry in self.summary["entries"]]

    @property
    def reference(self) -> int:
        """Number of the row that all others are compared with; the first where there is none."""
        names = [entry["name"] for entry in self.summary["entries"]]
        return names.index(self.summary["reference"]) if self.summary["reference"] in names else 0

    @cached_property
    def _several(self) -> tuple[bool, bool]:
        classes, seeds = zip(*((each.wire_class, each.seed) for each in self.predictions), strict=True)
        return len(set(classes)) > 1, len(set(seeds)) > 1

    @property
    def has_several(self) -> bool:
        """Whether a frame has several predictions of an entry: of classes or seeds."""
        return any(self._several)

    def which(self, prediction: Prediction) -> str:
        """Class and seed of a prediction, as far as the run has several."""
        parts = (prediction.wire_class, f"seed {prediction.seed}")
        return ", ".join(part for part, several in zip(parts, self._several, strict=True) if several)

    def prediction_file(self, prediction: Prediction) -> Path:
        """The predicted mask."""
        return self.root / prediction.figures["prediction"]

    def label_file(self, prediction: Prediction) -> Path:
        """The label of the same frame."""
        return Path(self.summary["labels"]) / self.prediction_file(prediction).name

    def image_file(self, prediction: Prediction) -> Path:
        """The frame itself, named as nnU-Net names the first channel."""
        mask = self.prediction_file(prediction)
        return Path(self.summary["images"]) / f"{mask.stem}_0000{mask.suffix}"


def read_run(root: Path) -> RunDocument:
    """Read a run folder.

    Raises
    ------
    InputError
        It is none, its tables are not made yet or lack what the page shows, or the frames that it was made from are
        gone.
    """
    file = root / SUMMARY_FILE
    if not root.is_dir():
        raise InputError(f"{root} is not there, or no folder: name the --out of fganet compare or fganet ablate.")
    if not file.is_file():
        raise InputError(f"{root} holds no {SUMMARY_FILE}: {_what_is_missing(root)}.")
    summary = _read(file)
    for what in ("labels", "images"):
        if not Path(summary[what]).is_dir():
            raise InputError(f"{file} names {summary[what]}, which is gone: bring the data set's {what} back there.")
    predictions = [
        Prediction(number, run, frame)
        for number, entry in enumerate(summary["entries"])
        for run in entry["runs"]
        for frame in run["frames"]
    ]
    return RunDocument(root, summary, predictions, _sequences(Path(summary["labels"]), list(summary["groups"])))


def worst_first(prediction: Prediction) -> tuple[float, float, str, int, str, int]:
    """Sort predictions: by Dice, then by clDice; what is equal in both, by name."""
    return (
        prediction.dice,
        prediction.figures["cldice"],
        prediction.case,
        prediction.entry,
        prediction.wire_class,
        prediction.seed,
    )


def in_time(case: str) -> tuple[str, int]:
    """Sort frames of a sequence in the order in which they were taken: by the last number of their names."""
    return split_at_last_number(case)


def _what_is_missing(root: Path) -> str:
    if (root / RECORD_FILE).is_file():
        return "its tables are not made yet, so run the command that made it again, which goes on where it was"
    if (root / "plans.json").is_file():
        return (
            "it is a single trained model, and a page is made of a run folder (fganet compare --networks fganet makes "
            "one of FGA-Net alone)"
        )
    return "it is no run folder, so name the --out of fganet compare or fganet ablate"


def _read(file: Path) -> dict[str, Any]:
    """The summary; what lacks something that the page shows (another version wrote it) is refused."""
    way_out = "run the command that made it again, which only writes its tables anew"
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{file} is damaged: {way_out}.") from None
    lacking = first_lacking(summary)
    if lacking is not None:
        raise InputError(f"{file} lacks {lacking}, as if written by another version: {way_out}.")
    return summary


def _sequences(labels: Path, cases: list[str]) -> dict[str, str]:
    records = records_of(cases, find_record(labels, None))
    return {case: record.sequence or split_at_last_number(case)[0] for case, record in records.items()}
