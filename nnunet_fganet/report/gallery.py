"""The frames that the page shows: which, with their pictures, as data for the page's script."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_fganet.demo.picture import evenly_spaced
from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.labels import WIRE_OR_NOT, DatasetLabels, find_labels
from nnunet_fganet.evaluation.masks import Mask, bounding_box
from nnunet_fganet.frames.reading import read_frame
from nnunet_fganet.report import charts, pictures
from nnunet_fganet.report.document import Prediction, RunDocument, in_time, worst_first
from nnunet_fganet.report.marks import find_marks
from nnunet_fganet.report.metrics import OF_A_FRAME

SEQUENCES = 24
"""That are shown through time: those with the lowest mean Dice of the reference."""
THUMBNAILS = 6
"""Of each of these sequences."""
MARKS = 100
"""Of a prediction, the largest: more cannot be told apart, and all are counted."""
_COUNTS = ("true_positive", "false_positive", "false_negative")
ROOM, LEAST_PART = 1.3, 0.25
"""Of small pictures: their side relative to the wire, and the least part of the frame that they show."""


@dataclass(frozen=True)
class Masks:
    """A frame of one class: all arrays (H, W)."""

    frame: npt.NDArray[np.integer]
    label: Mask
    found: Mask


class FrameFiles:
    """Reads frames, labels and predictions of a run folder, with the classes of its data set."""

    def __init__(self, run: RunDocument) -> None:
        self.run = run
        self._labels: DatasetLabels = WIRE_OR_NOT
        if run.predictions:
            first = run.predictions[0]
            self._labels = find_labels(run.prediction_file(first).parent, run.label_file(first).parent) or WIRE_OR_NOT

    def read(self, prediction: Prediction) -> Masks:
        """Frame, label and prediction of one class; what nobody has labelled belongs to neither mask.

        Raises
        ------
        InputError
            A file is missing or damaged, their sizes differ, the class is none of the data set, or a mask has changed
            since it was measured.
        """
        image, label_file = self.run.image_file(prediction), self.run.label_file(prediction)
        frame, label = read_frame(image), read_frame(label_file)
        found = read_frame(self.run.prediction_file(prediction))
        if not frame.shape == label.shape == found.shape:
            raise InputError(f"{image}, its label and its prediction differ in size: evaluate this run anew.")
        own = next((one for one in self._labels.classes if one.name == prediction.wire_class), None)
        if own is None:
            raise InputError(f"{label_file.parent} has no class {prediction.wire_class} any more: evaluate anew.")
        counted = np.ones(label.shape, bool) if self._labels.ignore is None else label != self._labels.ignore
        masks = Masks(frame, own.mask(label) & counted, own.mask(found) & counted)
        pixels = (masks.label & masks.found, masks.found & ~masks.label, masks.label & ~masks.found)
        if [np.count_nonzero(each) for each in pixels] != [prediction.figures[key] for key in _COUNTS]:
            raise InputError(f"{label_file} or its prediction has changed since it was measured: evaluate anew.")
        return masks


def pictured_cases(predictions: Iterable[Prediction], frames: int) -> set[str]:
    """Names of the frames with pictures: the worst and the best of every entry.

    The best are of frames with wire, as far as there are any: all of those without are equally good where nothing was
    found, and show nothing.

    Parameters
    ----------
    predictions
        All.
    frames
        How many worst and how many best frames of each entry.
    """
    by_entry: dict[int, list[Prediction]] = {}
    for prediction in predictions:
        by_entry.setdefault(prediction.entry, []).append(prediction)
    chosen: set[str] = set()
    for own in by_entry.values():
        worst = sorted(own, key=worst_first)
        best = sorted(reversed(worst), key=lambda each: not each.has_wire)
        for ordered in (worst, best):
            chosen.update(list(dict.fromkeys(each.case for each in ordered))[:frames])
    return chosen


def payload(run: RunDocument, files: FrameFiles, cases: set[str]) -> dict[str, Any]:
    """What the page's script shows: every prediction's figures, and pictures of the chosen frames.

    Returns
    -------
    data
        ``rows``, worst first; ``frames``: picture, size, labels by class, and a box around the wire, by the name of
        the frame.
    """
    frames: dict[str, dict[str, Any]] = {}
    wires: dict[str, Mask] = {}
    rows = []
    for prediction in sorted(run.predictions, key=worst_first):
        row = {
            "entry": prediction.entry,
            "case": prediction.case,
            "sequence": run.sequences[prediction.case],
            "fold": prediction.run["fold"],
            "seed": prediction.seed,
            "class": prediction.wire_class,
            "values": [_rounded(prediction.figures[shown.key]) for shown in OF_A_FRAME],
        }
        if prediction.case in cases:
            masks = files.read(prediction)
            row |= _pictures(masks)
            if prediction.case not in frames:
                frames[prediction.case] = _frame(masks.frame)
            labels = frames[prediction.case]["labels"]
            if prediction.wire_class not in labels:
                labels[prediction.wire_class] = pictures.label_uri(masks.label)
            wires[prediction.case] = masks.label | masks.found | wires.get(prediction.case, False)
        rows.append(row)
    for case, wire in wires.items():
        frames[case]["box"] = wire_box(wire)
    return {"rows": rows, "frames": frames}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _frame(frame: npt.NDArray[np.integer]) -> dict[str, Any]:
    height, width = frame.shape
    return {"width": width, "height": height, "image": pictures.frame_uri(frame), "labels": {}}


def _pictures(masks: Masks) -> dict[str, Any]:
    marks = find_marks(masks.label, masks.found)
    largest = sorted(marks, key=lambda mark: -mark.radius)[:MARKS]
    return {
        "prediction": pictures.prediction_uri(masks.found),
        "errors": pictures.errors_uri(masks.label, masks.found),
        "counts": Counter(mark.kind for mark in marks),
        "marks": [{"kind": mark.kind, "x": mark.column, "y": mark.row, "r": round(mark.radius, 1)} for mark in largest],
    }


def wire_box(wire: Mask) -> list[int]:
    """Left, top, width and height of a square around all that is wire in a mask (H, W), with room around it.

    The square has at least a quarter of the frame's longer side. Where none fits into the frame, and where there is no
    wire, it is the whole frame.
    """
    height, width = wire.shape
    box = bounding_box(wire)
    sides = [part.stop - part.start for part in box]
    side = round(max(ROOM * max(sides), LEAST_PART * max(height, width)))
    if side >= min(height, width) or not wire.any():
        return [0, 0, width, height]
    corner = [(part.start + part.stop - side) // 2 for part in box]
    top, left = (min(max(place, 0), length - side) for place, length in zip(corner, wire.shape, strict=True))
    return [left, top, side, side]


def sequences_of(run: RunDocument, files: FrameFiles) -> list[dict[str, Any]]:
    """The sequences that are shown through time, worst first: name, strip, and thumbnails of the reference.

    Thumbnails are of the first class and seed; Dice of sequences, and of the strips' cells, is the mean of all.
    """
    own = [each for each in run.predictions if each.entry == run.reference]
    means = charts.mean_dice(own, lambda each: run.sequences[each.case])
    dice = charts.mean_dice(run.predictions, lambda each: (each.entry, each.case))
    by_sequence: dict[str, dict[str, Prediction]] = {}
    for each in own:
        by_sequence.setdefault(run.sequences[each.case], {}).setdefault(each.case, each)
    shown = []
    for name in sorted(means, key=lambda each: (means[each], each))[:SEQUENCES]:
        cases = sorted(by_sequence[name], key=in_time)
        shown.append(
            {
                "name": name,
                "dice": means[name],
                "frames": len(cases),
                "strip": charts.strip(run, cases, dice),
                "thumbnails": [_thumbnail(files, by_sequence[name][case]) for case in evenly_spaced(cases, THUMBNAILS)],
            }
        )
    return shown


def _thumbnail(files: FrameFiles, prediction: Prediction) -> dict[str, Any]:
    masks = files.read(prediction)
    return {
        "case": prediction.case,
        "entry": prediction.entry,
        "class": prediction.wire_class,
        "seed": prediction.seed,
        "which": files.run.which(prediction),
        "dice": prediction.dice,
        "uri": pictures.thumbnail_uri(masks.frame, masks.label, masks.found),
    }
