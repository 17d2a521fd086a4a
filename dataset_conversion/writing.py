"""The data set on disk: nnU-Net's raw layout, the folds, and the record of the frames."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from dataset_conversion import labelme
from dataset_conversion.frame import Frame
from dataset_conversion.masks import read_mask
from dataset_conversion.splits import Fold
from nnunet_fganet import __version__
from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.collimation import clean_border
from nnunet_fganet.frames.reading import decode_frame, read_bytes
from nnunet_fganet.frames.report import REPORT_FILE
from nnunet_fganet.frames.writing import write_png

# A region of [1, 1] is one sigmoid output; nnU-Net reads a list of one element as a plain label.
LABELS: dict[str, dict[str, object]] = {
    "region": {"labels": {"background": 0, "guidewire": [1, 1]}, "regions_class_order": [1]},
    "plain": {"labels": {"background": 0, "guidewire": 1}},
}
_FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}
DATASET_FILE = "dataset.json"
SPLITS_FILE = "splits_final.json"
FRAMES_FILE = "frames.csv"
_CONVERTER = "nnunet_fganet"
FRAMES_COLUMNS = ("case", "split", "sequence", "patient", "source", "sha256", "spacing_mm", "time_s")


@dataclass(frozen=True)
class Written:
    """What came out of one frame.

    Attributes
    ----------
    sha256
        Of the file that held the image, in hexadecimal.
    removed
        Share of the frame's pixels that were set to zero, 0 to 1.
    wire
        Share of the frame's pixels that are labelled.
    wire_outside
        Number of labelled pixels that lie where the frame was set to zero.
    """

    sha256: str
    removed: float
    wire: float
    wire_outside: int


def make_folders(folder: Path) -> None:
    """Make the data set's four folders."""
    for names in _FOLDERS.values():
        for name in names:
            (folder / name).mkdir(parents=True)


def write_frame(frame: Frame, folder: Path, source: Path, threshold: int | None, line_width: int) -> Written:
    """Write ``<case>_0000.png``, its collimated border set to zero, and the label ``<case>.png``.

    Raises
    ------
    InputError
        Image or mask cannot be used, or their sizes differ.
    """
    content = read_bytes(frame.image)
    annotation = _read_annotation(frame, source) if frame.mask.suffix.lower() == ".json" else None
    embedded = annotation.embedded if annotation is not None else None
    image = decode_frame(content if embedded is None else embedded, frame.image)
    if annotation is not None:
        _check_sizes(frame, annotation.size or image.shape, image.shape)
        label = labelme.draw_mask(annotation, (image.shape[0], image.shape[1]), line_width)
    else:
        label = read_mask(frame.mask, threshold)
    _check_sizes(frame, label.shape, image.shape)
    image, window = clean_border(image)
    images, labels = (folder / name for name in _FOLDERS[frame.split])
    write_png(images / f"{frame.case}_0000.png", image)
    write_png(labels / f"{frame.case}.png", label)
    outside = int(np.count_nonzero(label > window.mask))
    wire = np.count_nonzero(label) / label.size
    return Written(hashlib.sha256(content).hexdigest(), window.removed, wire, outside)


def _read_annotation(frame: Frame, source: Path) -> labelme.Annotation:
    is_embedded = frame.image == frame.mask
    annotation = labelme.read_annotation(frame.mask, source, image=None if is_embedded else frame.image)
    if annotation is None:
        raise InputError(f"{frame.mask} is no Labelme file (it has no shapes): save it again in Labelme.")
    return annotation


def _check_sizes(frame: Frame, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    if mask != image:
        raise InputError(
            f"{frame.mask} has {mask[1]} x {mask[0]} pixels and its frame {frame.image} has {image[1]} x {image[0]}: "
            "export both in one size."
        )


def write_dataset_json(folder: Path, name: str, labels: str, training_cases: int) -> None:
    """Write ``dataset.json``; nnU-Net knows no special normalisation for a channel "xray" and takes z-score."""
    content = {
        "name": name,
        "description": "Guidewires in X-ray fluoroscopy",
        "channel_names": {"0": "xray"},
        **LABELS[labels],
        "numTraining": training_cases,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        "converted_by": f"{_CONVERTER} {__version__}",
    }
    _write_json(folder / DATASET_FILE, content)


def is_converted(folder: Path) -> bool:
    """Whether a folder holds what the converter wrote, and nothing else."""
    try:
        content = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(content, dict) or not str(content.get("converted_by")).startswith(_CONVERTER):
        return False
    written = {*chain(*_FOLDERS.values()), DATASET_FILE, SPLITS_FILE, FRAMES_FILE, REPORT_FILE}
    return {path.name for path in folder.iterdir()} <= written


def write_folds(folder: Path, folds: Sequence[Fold]) -> None:
    """Write ``splits_final.json``, which nnU-Net's planner copies to the preprocessed data."""
    _write_json(folder / SPLITS_FILE, folds)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def write_frames_csv(folder: Path, frames: Sequence[Frame], written: Sequence[Written]) -> None:
    """Write ``frames.csv``: where every frame came from."""
    with (folder / FRAMES_FILE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(FRAMES_COLUMNS)
        for frame, result in zip(frames, written, strict=True):
            known = (frame.case, frame.split, frame.sequence, frame.patient, frame.source)
            table.writerow([*known, result.sha256, frame.spacing_mm, frame.time_s])
