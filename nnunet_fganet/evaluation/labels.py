"""Which classes the integer values of a label stand for: nnU-Net's ``dataset.json``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.masks import Labels, Mask

DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class LabelClass:
    """A foreground class: the label values that belong to it (a region has several); none for all but zero."""

    name: str
    values: tuple[int, ...]
    channel: int

    def mask(self, label: Labels) -> Mask:
        """Return the pixels of the class in a label of shape (H, W)."""
        if not self.values:
            return label != 0
        return label == self.values[0] if len(self.values) == 1 else np.isin(label, self.values)


@dataclass(frozen=True)
class DatasetLabels:
    """What the values of a data set's labels mean.

    Attributes
    ----------
    classes
        Foreground classes, each with its channel in nnU-Net's probabilities.
    values
        All values that a prediction may have; None where any may occur.
    ignore
        Value of pixels that nobody has labelled.
    channels
        Possible numbers of channels of nnU-Net's probabilities: one for each region, or one for each label and the
        background.
    """

    classes: tuple[LabelClass, ...]
    values: frozenset[int] | None
    ignore: int | None
    channels: tuple[int, ...]


WIRE_OR_NOT = DatasetLabels((LabelClass("wire", (), channel=-1),), values=None, ignore=None, channels=(1, 2))


def file_of_dataset(labels: Path, name: str) -> Path:
    """Path of a file of the data set that a folder of labels belongs to, whether it is there or not.

    It lies in the folder above; where ``labels`` is a link, that is the folder which holds the link or the one above
    what it leads to.
    """
    above = labels.absolute().parent / name
    return above if above.is_file() else labels.resolve().parent / name


def find_labels(predictions: Path, labels: Path) -> DatasetLabels | None:
    """Read the classes from the ``dataset.json`` of the labels' data set, or from the one that nnU-Net predicts beside.

    Returns
    -------
    dataset_labels
        None without such a file. Where both are there they have to agree, and the channels are the predictions'.

    Raises
    ------
    InputError
        A file cannot be read, or they have different classes.
    """
    candidates = [file_of_dataset(labels, DATASET_FILE), labels / DATASET_FILE, predictions / DATASET_FILE]
    files = [file for file in candidates if file.is_file()]
    found = [read_labels(file) for file in files]
    for file, own in zip(files, found, strict=True):
        if _meaning(own) != _meaning(found[0]):
            raise InputError(
                f"{file} has the classes {_describe(own)}, but {files[0]} has {_describe(found[0])}: "
                "give predictions and labels of one data set."
            )
    return found[-1] if found else None


def read_labels(path: Path) -> DatasetLabels:
    """Read ``labels`` of a ``dataset.json``, with the order of channels that nnU-Net's label manager has.

    Raises
    ------
    InputError
        The file cannot be read or is none of nnU-Net's.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        named = {name: _values(value) for name, value in document["labels"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise InputError(f"{path} has no labels as nnU-Net writes them: restore the data set's own file.") from None
    ignore = named.pop("ignore", (None,))[0]
    foreground = {name: values for name, values in named.items() if values != (0,)}
    if not foreground:
        raise InputError(f"{path} has no class but the background: add one to its labels.")
    every = frozenset({0}.union(*foreground.values()))
    if any(len(value) > 1 for value in document["labels"].values() if isinstance(value, list)):
        channels = dict(zip(foreground, range(len(foreground)), strict=True))
        number = len(channels)
    else:
        channels = {name: values[0] for name, values in foreground.items()}
        number = max(every) + 1
    classes = tuple(LabelClass(name, values, channels[name]) for name, values in foreground.items())
    return DatasetLabels(classes, every, ignore, (number,))


def _values(value: Any) -> tuple[int, ...]:
    """Values of one entry, without repetition: nnU-Net's way to write a region of one label is [1, 1]."""
    values = {int(one) for one in value} if isinstance(value, list) else {int(value)}
    if not values:
        raise ValueError("a region without labels")
    return tuple(sorted(values))


def _meaning(labels: DatasetLabels) -> tuple[dict[str, tuple[int, ...]], int | None]:
    return {one.name: one.values for one in labels.classes}, labels.ignore


def _describe(labels: DatasetLabels) -> str:
    return ", ".join(f"{one.name} ({' + '.join(map(str, one.values))})" for one in labels.classes)
