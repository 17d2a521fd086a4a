"""Where the data set goes, and what is in the way there."""

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from dataset_conversion.writing import is_converted
from nnunet_fganet.errors import InputError
from nnunet_fganet.files import check_replaceable
from nnunet_fganet.nnunet_folders import check_folder_variable

_HIGHEST_ID = 999  # nnU-Net reads the id from three digits
_OURS = "data set of fganet convert alone (it holds other files, or its dataset.json is another's)"
_MADE_FROM_RAW = {"nnUNet_preprocessed": "preprocessed", "nnUNet_results": "trained on"}


def find_target(out: Path | None, dataset_id: int, name: str, force: bool, sources: Iterable[Path]) -> Path:
    """Path of the data set to make, ``DatasetXXX_Name``.

    Parameters
    ----------
    out
        Folder to make it in; None for ``$nnUNet_raw``.
    dataset_id, name
        As nnU-Net knows the data set.
    force
        A data set of the same id and name may be there.
    sources
        Files and folders that are read.

    Raises
    ------
    InputError
        No folder is given, or ``$nnUNet_raw`` would be misread, id or name are not usable, the id is in use, or the
        data set's folder may not be replaced.
    """
    if not 1 <= dataset_id <= _HIGHEST_ID:
        raise InputError(f"--id {dataset_id} is not possible: nnU-Net knows ids from 1 to {_HIGHEST_ID}.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise InputError(f"--name {name!r} is not possible: use letters, digits, _ and -.")
    if out is None:
        check_folder_variable("nnUNet_raw")
    folder = out or _nnunet_folder("nnUNet_raw")
    if folder is None:
        raise InputError(
            "nnUNet_raw is not set: export nnUNet_raw=/path/to/nnUNet_raw, or name a folder with --out DIR."
        )
    target = folder / f"Dataset{dataset_id:03d}_{name}"
    others = [_nnunet_folder(variable) for variable in _MADE_FROM_RAW] if _is_in_nnunet(target) else []
    _check_id(target, [folder, *(other for other in others if other is not None)])
    check_replaceable(target, force, is_converted, _OURS, sources, "choose another --id and --name")
    return target


def _is_in_nnunet(target: Path) -> bool:
    """Whether nnU-Net finds the data set; another of its name, made elsewhere with ``--out``, is not its business."""
    raw = _nnunet_folder("nnUNet_raw")
    return raw is not None and target.parent.resolve() == raw.resolve()


def _check_id(target: Path, folders: list[Path]) -> None:
    """NnU-Net refuses an id that has two names in any of its folders."""
    prefix = target.name.partition("_")[0]
    for folder in folders:
        for other in sorted(folder.glob(f"{prefix}*")):
            if other.is_dir() and other.name != target.name:
                number = int(prefix.removeprefix("Dataset"))
                raise InputError(f"{other} uses the id {number} already: choose another --id, or remove it.")


def describe_stale(target: Path) -> list[str]:
    """Sentences on what nnU-Net made from the data set that was replaced, with the commands that remove it."""
    if not _is_in_nnunet(target):
        return []
    sentences = []
    for variable, what in _MADE_FROM_RAW.items():
        folder = _nnunet_folder(variable)
        if folder is not None and (stale := folder / target.name).is_dir():
            sentences.append(
                f"Stale, {what} from the replaced data: remove it with\n    rm -r {shlex.quote(str(stale))}"
            )
    return sentences


def _nnunet_folder(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None
