"""A data set that is converted and planned, found by its number."""

import filecmp
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.pairs import SPLITS_FILE, validation_frames
from nnunet_fganet.evaluation.record import find_record, groups_of, name_some, records_of
from nnunet_fganet.planning.planner import CONFIGURATION
from nnunet_fganet.planning.planning import raw_folder
from nnunet_fganet.precision import compute_dtypes
from nnunet_fganet.training.settings import TrainingSettings


@dataclass(frozen=True)
class PlannedDataset:
    """What trainings and their evaluation need of a data set.

    Attributes
    ----------
    name
        ``Dataset501_TCGSeg``.
    raw, plans_file
        Its folder of frames and labels, and its plans.
    plans, description
        Content of the plans and of ``dataset.json``.
    validation
        Validation frames of each fold.
    """

    name: str
    raw: Path
    plans_file: Path
    plans: dict[str, Any]
    description: dict[str, Any]
    validation: list[list[str]]

    @property
    def labels(self) -> Path:
        """Folder of the labels of all frames that have folds."""
        return self.raw / "labelsTr"

    def frames(self, folds: tuple[int, ...]) -> list[str]:
        """Validation frames of these folds.

        Raises
        ------
        InputError
            A fold does not exist, or two of them validate the same frame.
        """
        for fold in folds:
            if fold >= len(self.validation):
                raise InputError(
                    f"--folds {fold}: {self.plans_file.parent / SPLITS_FILE} has the folds 0 to "
                    f"{len(self.validation) - 1}."
                )
        frames = [case for fold in folds for case in self.validation[fold]]
        if len(set(frames)) < len(frames):
            raise InputError(
                f"--folds {' '.join(map(str, folds))} validate some frames more than once: name folds that share none."
            )
        return frames

    def groups(self, frames: list[str], by: str) -> dict[str, str]:
        """Sequence (or patient) of each frame."""
        record = find_record(self.labels, None)
        return groups_of(records_of(frames, record), by, record)


def data_digest(dataset: PlannedDataset) -> str:
    """Digest of what networks learn from and are measured on: folds, frames and masks, each by its name and bytes.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256((dataset.plans_file.parent / SPLITS_FILE).read_bytes())
    for folder in (dataset.raw / "imagesTr", dataset.labels):
        for file in sorted(folder.glob(f"*{dataset.description['file_ending']}")):
            digest.update(f"\0{folder.name}/{file.name}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def find_planned_dataset(number: int, plans_name: str) -> PlannedDataset:
    """Find a data set with plans of ``fganet plan`` and preprocessed frames.

    Raises
    ------
    InputError
        Something is missing or mistyped; the sentence names it, and the command that makes it.
    """
    raw = raw_folder(number)
    folder = Path(nnUNet_preprocessed) / raw.name
    plans_file = folder / f"{plans_name}.json"
    if not plans_file.is_file():
        raise InputError(f"there are no plans {plans_file}: make them with fganet plan {number}.")
    plans, description = _read(plans_file), _read(folder / "dataset.json")
    if "configurations" not in plans or CONFIGURATION not in plans["configurations"]:
        raise InputError(f"{plans_file} has no configuration {CONFIGURATION}: make it anew with fganet plan {number}.")
    _check_settings(plans_file, plans["configurations"][CONFIGURATION], number)
    validation = _validation_frames(folder / SPLITS_FILE)
    _check_preprocessed(folder / plans["configurations"][CONFIGURATION]["data_identifier"], validation, number)
    dataset = PlannedDataset(raw.name, raw, plans_file, plans, description, validation)
    _check_masks(dataset, number)
    return dataset


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is missing or damaged: make it anew with fganet plan.")
    return content


def _check_settings(plans_file: Path, configuration: Mapping[str, Any], number: int) -> None:
    try:
        settings = TrainingSettings.from_configuration(configuration)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{plans_file} cannot be trained with ({error}): correct it, or make it anew with "
            f"fganet plan {number} --force."
        ) from error
    try:
        compute_dtypes(settings.precision)
    except ValueError as error:  # of the environment variable, as the plans' own precision has passed
        raise InputError(f"{error}.") from error


def _validation_frames(path: Path) -> list[list[str]]:
    """nnU-Net would split by frame where there is no such file, and validate on sequences that it trained on."""
    validation = validation_frames(path)
    if validation is None:
        raise InputError(
            f"{path} is missing or holds no folds: convert the frames with fganet convert, which keeps sequences "
            "together, and plan again."
        )
    return validation


def _check_preprocessed(folder: Path, validation: list[list[str]], number: int) -> None:
    wanted = sorted({case for fold in validation for case in fold})
    try:
        there = set(infer_dataset_class(str(folder)).get_identifiers(str(folder)))
    except (OSError, AssertionError, KeyError):  # no such folder, or none that nnU-Net wrote
        there = set()
    missing = [case for case in wanted if case not in there]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {len(wanted)} preprocessed frames ({name_some(missing)}): "
            f"run fganet plan {number} again."
        )


def _check_masks(dataset: PlannedDataset, number: int) -> None:
    """Masks that were corrected after the preprocessing would be measured on, and not be learnt from."""
    kept = dataset.plans_file.with_name("gt_segmentations")  # nnU-Net's copies, from when it preprocessed
    masks = dataset.labels.glob(f"*{dataset.description['file_ending']}")
    changed = sorted(
        mask.name
        for mask in masks
        if (kept / mask.name).is_file() and not filecmp.cmp(mask, kept / mask.name, shallow=False)
    )
    if changed:
        raise InputError(
            f"{dataset.labels} holds masks that changed since they were preprocessed "
            f"({name_some(changed)}): remove {kept}, then run fganet plan {number} with its options and --force."
        )
