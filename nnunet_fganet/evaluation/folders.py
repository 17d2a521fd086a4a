"""A folder of predictions against a folder of labels: reads, checks and measures every frame."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.frame import FrameFigures, measure_frame
from nnunet_fganet.evaluation.labels import DATASET_FILE, WIRE_OR_NOT, DatasetLabels, file_of_dataset, find_labels
from nnunet_fganet.evaluation.pairs import SPLITS_FILE, Pair, find_pairs, frames_of_fold
from nnunet_fganet.evaluation.probability import auc_error
from nnunet_fganet.evaluation.record import find_record, groups_of, name_some, records_of
from nnunet_fganet.frames.reading import read_frame
from nnunet_fganet.frames.workers import default_workers, map_with_progress

_NOTED_AUC_ERROR = 5e-4  # a table shows three digits


@dataclass(frozen=True)
class EvaluationOptions:
    """What is to be evaluated; ``docs/evaluation.md`` explains each.

    Attributes
    ----------
    predictions, labels
        Folders of masks of equal names.
    probabilities
        Folder of nnU-Net's ``.npz`` files; None for those beside the predictions, if all are there.
    by
        What is resampled: ``sequence`` or ``patient``.
    frames
        Table of sequences, patients and spacings; None for ``frames.csv`` of the labels' data set.
    fold
        Evaluate the validation frames of this fold only.
    workers
        Threads.
    """

    predictions: Path
    labels: Path
    probabilities: Path | None = None
    by: str = "sequence"
    frames: Path | None = None
    fold: int | None = None
    workers: int = default_workers()


@dataclass(frozen=True)
class Evaluation:
    """Frames by class, the group of each frame by its name, and sentences on what there is to know."""

    measured: dict[str, list[FrameFigures]]
    groups: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class FoundFrames:
    """What is to be measured, and what ``record`` (a table, if any) says of each frame."""

    pairs: list[Pair]
    labels: DatasetLabels | None
    record: Path | None
    groups: dict[str, str]
    spacings: dict[str, float | None]

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        label, prediction = self.pairs[0].label, self.pairs[0].prediction
        folders = (label.parent, prediction.parent)
        files = [folder / DATASET_FILE for folder in folders]
        files += [file_of_dataset(label.parent, name) for name in (DATASET_FILE, SPLITS_FILE)]
        files += [] if self.record is None else [self.record]
        of_pairs = ((pair.label, pair.prediction, pair.probability) for pair in self.pairs)
        return files + [file for of_pair in of_pairs for file in of_pair if file is not None]

    @property
    def class_names(self) -> set[str]:
        """Names of the foreground classes."""
        return {one.name for one in (self.labels or WIRE_OR_NOT).classes}


def find_frames(options: EvaluationOptions) -> FoundFrames:
    """Find all frames and what is known of them, without reading a mask.

    Raises
    ------
    InputError
        Something is missing or does not fit together; the message names it.
    """
    only = None if options.fold is None else frames_of_fold(options.labels, options.fold)
    pairs = find_pairs(options.predictions, options.labels, options.probabilities, only)
    labels = find_labels(options.predictions, options.labels)
    record = find_record(options.labels, options.frames)
    records = records_of([pair.case for pair in pairs], record)
    groups = groups_of(records, options.by, record)
    spacings = {case: known.spacing_mm for case, known in records.items()}
    return FoundFrames(pairs, labels, record, groups, spacings)


def evaluate_folders(options: EvaluationOptions) -> Evaluation:
    """Measure every frame of a folder.

    Raises
    ------
    InputError
        Something given cannot be used; the message names it.
    """
    found = find_frames(options)
    measure = partial(measure_pair, labels=found.labels or WIRE_OR_NOT, spacings=found.spacings)
    frames = map_with_progress(measure, found.pairs, options.workers, "evaluate")
    measured = {name: [frame[name] for frame in frames] for name in frames[0]}
    by_name = "sequence by file name, up to its last number"
    notes = [f"Grouping: {by_name if found.record is None else f'{options.by} by {found.record}'}."]
    if found.labels is None:
        _check_one_class([pair.label for pair in found.pairs], options.labels)
        _check_one_class([pair.prediction for pair in found.pairs], options.predictions)
        notes.append("No dataset.json beside the labels or the predictions: every value but 0 counts as wire.")
    notes += _notes_on_probabilities(measured, found.pairs, options.predictions)
    return Evaluation(measured, found.groups, notes)


def measure_pair(pair: Pair, labels: DatasetLabels, spacings: dict[str, float | None]) -> dict[str, FrameFigures]:
    """Read the files of one frame and measure every class.

    Raises
    ------
    InputError
        A file cannot be read, or has another size or other values than it should.
    """
    label, prediction = read_frame(pair.label), read_frame(pair.prediction)
    _check_size(pair.prediction, prediction.shape, pair.label, label.shape)
    ignored = set() if labels.ignore is None else {labels.ignore}
    _check_values(pair.label, label, labels, ignored)
    _check_values(pair.prediction, prediction, labels, set())
    probabilities = None if pair.probability is None else read_probabilities(pair.probability, labels)
    if pair.probability is not None and probabilities is not None:
        _check_size(pair.probability, probabilities.shape[1:], pair.label, label.shape)
    counted = None if labels.ignore is None else label != labels.ignore
    return {
        one.name: measure_frame(
            pair.case,
            one.mask(label),
            one.mask(prediction),
            counted,
            None if probabilities is None else probabilities[one.channel],
            spacings[pair.case],
        )
        for one in labels.classes
    }


def read_probabilities(path: Path, labels: DatasetLabels) -> npt.NDArray[np.floating]:
    """Read what ``nnUNetv2_predict --save_probabilities`` wrote.

    Returns
    -------
    probabilities
        (channels, H, W), in [0, 1].

    Raises
    ------
    InputError
        The file is damaged, has no ``probabilities``, other channels than the data set's labels ask for, or values
        that are none.
    """
    try:
        with np.load(path) as file:
            probabilities = file["probabilities"]
    except Exception as error:  # a damaged archive raises nearly everything
        raise InputError(f"{path} cannot be read as nnU-Net's probabilities ({error}): predict it again.") from None
    if probabilities.ndim == 4 and probabilities.shape[1] == 1:  # nnU-Net keeps an axis of length 1 for slices
        probabilities = probabilities[:, 0]
    if probabilities.ndim != 3 or len(probabilities) not in labels.channels or not probabilities.size:
        raise InputError(
            f"{path} has probabilities of shape {probabilities.shape}, and the data set's labels ask for "
            f"({' or '.join(map(str, labels.channels))}, H, W): give those of this data set's network."
        )
    are_numbers = probabilities.dtype.kind in "fiub"
    if not (are_numbers and probabilities.min() >= 0 and probabilities.max() <= 1):  # false for NaN, too
        raise InputError(f"{path} has values outside 0 to 1, which are no probabilities: predict it again.")
    return probabilities.astype(np.float32, copy=False)


def _check_size(path: Path, shape: tuple[int, ...], label: Path, wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise InputError(
            f"{path} has {shape[1]} x {shape[0]} pixels and its label {label} has {wanted[1]} x {wanted[0]}: "
            "give masks of one size."
        )


def _check_values(path: Path, mask: npt.NDArray[np.integer], labels: DatasetLabels, also: set[int]) -> None:
    values = _values_of(mask)
    if labels.values is None:
        if len(values) > 2:
            raise InputError(
                f"{path} has {len(values)} values, and there is no dataset.json that says what they mean: save it as a "
                "mask of two values (PNG: JPEG blurs them), or put the data set's dataset.json into a folder of masks."
            )
        return
    unknown = sorted(values - labels.values - also)
    if unknown:
        raise InputError(
            f"{path} has the value {name_some([str(value) for value in unknown])}, which is no label of the data set "
            f"({', '.join(map(str, sorted(labels.values)))}): give masks as nnU-Net writes them."
        )


def _values_of(mask: npt.NDArray[np.integer]) -> set[int]:
    return {int(value) for value in np.flatnonzero(np.bincount(mask.ravel()))}


def _check_one_class(masks: list[Path], folder: Path) -> None:
    """Raise InputError where masks of two values each have different ones: nobody knows whether they are one class."""
    values = set().union(*(_values_of(read_frame(mask)) for mask in masks)) - {0}
    if len(values) > 1:
        raise InputError(
            f"{folder} has masks of the values {name_some([str(value) for value in sorted(values)])}, and there is no "
            "dataset.json that says what they mean: save all with one value, or put the data set's dataset.json there."
        )


def _notes_on_probabilities(measured: dict[str, list[FrameFigures]], pairs: list[Pair], predictions: Path) -> list[str]:
    without = [pair.case for pair in pairs if pair.probability is None]
    if without:
        lacking = [case for case in without if not (predictions / f"{case}.npz").is_file()]
        some = f"{predictions} lacks those (.npz) of {len(lacking)} of {len(pairs)} frames ({name_some(lacking)})"
        none = f"there are none (.npz) in {predictions}"
        return [
            "AUC and ECE need the probabilities of all frames, and "
            f"{none if len(lacking) == len(pairs) else some}: nnUNetv2_predict --save_probabilities writes them."
        ]
    notes = []
    for name, frames in measured.items():
        ranks = [frame.histogram.ranks for frame in frames if frame.histogram is not None]
        error = float(auc_error(np.sum(ranks, axis=0, dtype=np.int64)))
        if error > _NOTED_AUC_ERROR:
            notes.append(f"AUC of {name} is exact to within {error:.4f} only: many pixels have nearly one probability.")
    return notes
