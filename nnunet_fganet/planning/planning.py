"""Fingerprint, plan and preprocess a data set for FGA-Net: what ``fganet plan`` does."""

import json
from pathlib import Path

from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

from nnunet_fganet.errors import InputError
from nnunet_fganet.nnunet_folders import check_folder_variable
from nnunet_fganet.planning.json_files import read_json
from nnunet_fganet.planning.models import models_of_other_plans
from nnunet_fganet.planning.planner import CONFIGURATION, PLANS_NAME, FGANetPlanner, PlanningOptions


def plan_and_preprocess(
    dataset_id: int, options: PlanningOptions, plans_name: str = PLANS_NAME, workers: int = 2
) -> Path:
    """Fingerprint, plan and preprocess a converted data set.

    Parameters
    ----------
    dataset_id
        Number of a data set under ``nnUNet_raw``.
    options
        What the user asks for.
    plans_name
        Name of the plans: ``-p`` of nnU-Net's commands.
    workers
        Processes that read and write frames.

    Returns
    -------
    Path
        The plans file.

    Raises
    ------
    InputError
        A folder of nnU-Net is not set, the data set is missing or damaged, or its splits changed
        since it was planned.
    """
    raw = raw_folder(dataset_id)
    preprocessed = Path(nnUNet_preprocessed) / raw.name
    _check_json_files(raw, preprocessed)
    _check_splits(raw, preprocessed)
    _check_integrity(raw, workers)
    extract_fingerprint_dataset(dataset_id, num_processes=workers, verbose=False)
    planner = type("FGANetPlanner", (FGANetPlanner,), {"options": options})
    plan_experiment_dataset(dataset_id, planner, overwrite_plans_name=plans_name)
    preprocess_dataset(dataset_id, plans_name, (CONFIGURATION,), [workers])
    plans_file = preprocessed / f"{plans_name}.json"
    _name_models_of_replaced_plans(raw.name, plans_file)
    return plans_file


def raw_folder(dataset_id: int) -> Path:
    """Folder of the raw data set with this number.

    Raises
    ------
    InputError
        A folder of nnU-Net is not set, or wrongly, or not exactly one data set has the number.
    """
    for folder in (nnUNet_raw, nnUNet_preprocessed):
        check_folder_variable(folder.env_var_name)
        if not folder.get():
            raise InputError(
                f"{folder.env_var_name} is not set: export {folder.env_var_name}=FOLDER "
                "(fganet doctor shows the folders that nnU-Net needs)."
            )
    names = [str(name) for name in find_candidate_datasets(dataset_id)]
    if len(names) > 1:
        raise InputError(f"number {dataset_id} is taken by several data sets ({', '.join(names)}): remove all but one.")
    if not names or not (Path(nnUNet_raw) / names[0] / "dataset.json").is_file():
        raise InputError(
            f"there is no data set {dataset_id} in {nnUNet_raw}: make it with fganet convert --id {dataset_id}."
        )
    return Path(nnUNet_raw) / names[0]


def _check_json_files(raw: Path, preprocessed: Path) -> None:
    """Name a file that was cut off before nnU-Net fails in it."""
    for name in ("dataset.json", "splits_final.json"):
        if (raw / name).is_file():
            read_json(raw / name, "convert the data set again")
    for name in ("dataset_fingerprint.json", "splits_final.json"):
        if (preprocessed / name).is_file():
            read_json(preprocessed / name, "remove it, then plan again")


def _check_splits(raw: Path, preprocessed: Path) -> None:
    """nnU-Net keeps the splits of the first planning; other ones in the raw folder stop it without a word."""
    new, old = raw / "splits_final.json", preprocessed / "splits_final.json"
    if not (new.is_file() and old.is_file()):
        return
    new_folds, old_folds = (json.loads(file.read_text(encoding="utf-8")) for file in (new, old))
    if new_folds != old_folds[: len(new_folds)]:
        raise InputError(
            f"{old} belongs to an earlier conversion of {raw.name}: "
            f"remove {preprocessed} (frames preprocessed from the old data), then plan again."
        )


def _name_models_of_replaced_plans(dataset: str, plans_file: Path) -> None:
    """Say that models are left which plans of this name do not fit any more."""
    results = nnUNet_results.get()
    if not results:
        return
    plans = read_json(plans_file, "plan again")
    for model in models_of_other_plans(Path(results) / dataset, plans, plans_file.stem):
        print(
            f"\n{model} was trained with the plans that were replaced: it predicts as before, but no fold can be added "
            "to it. Plan with another --plans-name to train beside it, or move it away."
        )


def _check_integrity(raw: Path, workers: int) -> None:
    try:
        verify_dataset_integrity(str(raw), workers)
    except (AssertionError, RuntimeError) as error:
        raise InputError(f"{raw} is not a valid nnU-Net data set ({error}): convert it again.") from error
