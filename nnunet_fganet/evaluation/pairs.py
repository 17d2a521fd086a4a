"""Which prediction belongs to which label: by file name, and none is left over."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.labels import DATASET_FILE, file_of_dataset
from nnunet_fganet.evaluation.record import name_some
from nnunet_fganet.files import is_text
from nnunet_fganet.frames.reading import is_image

SPLITS_FILE = "splits_final.json"
# What nnU-Net writes beside predictions, and never beside labels.
_PREDICTION_FILES = ("predict_from_raw_data_args.json", "plans.json")
_NNUNETS_SUMMARY, _ITS_KEY = "summary.json", "metric_per_case"  # users may call ours so, and write it anywhere


@dataclass(frozen=True)
class Pair:
    """Files of one frame; ``probability`` is None without one."""

    case: str
    label: Path
    prediction: Path
    probability: Path | None


def find_pairs(
    predictions: Path, labels: Path, probabilities: Path | None = None, only: Collection[str] | None = None
) -> list[Pair]:
    """Match the files of two folders by their names.

    Parameters
    ----------
    predictions, labels
        Folders of images; files that are no images (nnU-Net writes some beside its predictions) do not count.
    probabilities
        Folder of ``<case>.npz``, all of which have to be there. Where it is left out, those beside the predictions are
        taken if all are there, and none otherwise.
    only
        Frames to evaluate; all of ``labels`` where it is left out.

    Returns
    -------
    pairs
        Sorted by name.

    Raises
    ------
    InputError
        A folder is missing or empty, both are one, they are swapped, or a file is missing or left over.
    """
    _check_folders(predictions, labels)
    label_files, prediction_files = _images(labels), _images(predictions)
    if only is not None:
        _check_complete(only, label_files, f"{labels} lacks", "label")
        label_files = {case: label_files[case] for case in only}
    _check_complete(label_files, prediction_files, f"{predictions} lacks predictions of", "predict them")
    if only is None:
        way_out = f"take these predictions out, or label them in {labels.name}"
        _check_complete(prediction_files, label_files, f"{labels} has no labels of", way_out)
    else:
        _check_complete(
            prediction_files, label_files, f"{predictions} has predictions that are not of the fold:", "take them out"
        )
    probability_files = _probabilities(predictions, probabilities, label_files)
    return [
        Pair(case, label_files[case], prediction_files[case], probability_files.get(case))
        for case in sorted(label_files)
    ]


def validation_frames(path: Path) -> list[list[str]] | None:
    """Validation frames of each fold of a ``splits_final.json``; None where it is missing or holds no folds."""
    try:
        folds = [list(fold["val"]) for fold in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    are_names = all(isinstance(case, str) for fold in folds for case in fold)
    return folds if folds and are_names else None


def frames_of_fold(labels: Path, fold: int) -> list[str]:
    """Read the validation frames of a fold from ``splits_final.json`` of the labels' data set.

    Raises
    ------
    InputError
        There is no such file or fold.
    """
    path = file_of_dataset(labels, SPLITS_FILE)
    validation = validation_frames(path)
    if validation is None:
        raise InputError(f"--fold {fold}: {path} is missing or holds no folds as nnU-Net writes them.")
    if not 0 <= fold < len(validation):
        raise InputError(f"--fold {fold}: {path} has the folds 0 to {len(validation) - 1}.")
    return validation[fold]


def _check_folders(predictions: Path, labels: Path) -> None:
    for folder in (predictions, labels):
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder: name one of masks.")
    if predictions.resolve() == labels.resolve():
        raise InputError(f"{predictions} is given as predictions and as labels: name two folders.")
    if (_is_label_folder(predictions) and not _is_label_folder(labels)) or (
        _has_prediction_files(labels) and not _has_prediction_files(predictions)
    ):
        raise InputError(f"{predictions} and {labels} seem to be swapped: the predictions come first, then the labels.")


def _is_label_folder(folder: Path) -> bool:
    """Whether it is a folder of labels in an nnU-Net data set, raw or preprocessed."""
    folder = folder.resolve()
    return folder.name in ("labelsTr", "labelsTs", "gt_segmentations") and (folder.parent / DATASET_FILE).is_file()


def _has_prediction_files(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _PREDICTION_FILES) or _has_nnunets_summary(folder)


def _has_nnunets_summary(folder: Path) -> bool:
    try:
        return _ITS_KEY in json.loads((folder / _NNUNETS_SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _images(folder: Path) -> dict[str, Path]:
    """Image files by name without ending."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path):
            continue
        if not is_text(path.name):
            raise InputError(f"{folder} has a file whose name is no UTF-8 ({path.name!a}): rename it.")
        if path.stem in files:
            raise InputError(f"{files[path.stem]} and {path.name} are two masks of one frame: take one of them out.")
        files[path.stem] = path
    if not files:
        raise InputError(f"{folder} has no images (PNG, JPEG, TIFF or BMP): name a folder of masks.")
    return files


def _check_complete(wanted: Collection[str], there: Collection[str], what: str, way_out: str) -> None:
    missing = [case for case in wanted if case not in there]
    if missing:
        raise InputError(f"{what} {len(missing)} of {len(wanted)} frames ({name_some(missing)}): {way_out}.")


def _probabilities(predictions: Path, given: Path | None, cases: Mapping[str, Path]) -> dict[str, Path]:
    folder = predictions if given is None else given
    if not folder.is_dir():
        raise InputError(f"--probabilities {folder} is no folder: name the one with nnU-Net's .npz files.")
    files = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if given is None and not files.keys() >= cases.keys():
        return {}
    way_out = "nnUNetv2_predict --save_probabilities writes them"
    _check_complete(cases, files, f"{folder} lacks the probabilities (.npz) of", way_out)
    return files
