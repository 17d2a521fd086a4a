"""A contact sheet: frames, their labels, and what the network found, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

FOUND, MISSED, FALSE = (0.2, 0.9, 0.3), (1.0, 0.75, 0.0), (1.0, 0.15, 0.3)
OPACITY = 0.75
FRAMES_A_ROW = 2
INCHES = 2.1

Frame = npt.NDArray[np.uint8]
Item = TypeVar("Item")


class PicturedFrame(NamedTuple):
    """A frame of the contact sheet; the arrays are (height, width), 8 bit."""

    case: str
    frame: Frame
    label: Frame
    prediction: Frame
    dice: float


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` of the items (all, where there are fewer), first and last included: not a chosen few."""
    positions = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(position)] for position in positions]


def overlay(frame: Frame, label: Frame, prediction: Frame) -> npt.NDArray[np.float64]:
    """Colour a frame where label and prediction agree and where they do not.

    Parameters
    ----------
    frame
        (height, width), 8 bit.
    label, prediction
        (height, width), non-zero is wire. The same array for both shows the label alone.

    Returns
    -------
    numpy.ndarray
        (height, width, 3), in [0, 1].
    """
    picture = np.repeat(frame[..., None] / 255.0, 3, axis=2)
    wire, found = label != 0, prediction != 0
    for mask, colour in ((wire & found, FOUND), (wire & ~found, MISSED), (found & ~wire, FALSE)):
        picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * np.array(colour)
    return picture


def write_contact_sheet(path: Path, frames: Sequence[PicturedFrame]) -> None:
    """Write a PNG with three pictures a frame: as it is, with its label, with the prediction.

    Parameters
    ----------
    path
        File to write.
    frames
        What to show, row by row.
    """
    rows = -(-len(frames) // FRAMES_A_ROW)
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(3 * FRAMES_A_ROW * INCHES, rows * (INCHES + 0.25) + 0.4), layout="constrained")
        axes = figure.subplots(rows, 3 * FRAMES_A_ROW, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for index, pictured in enumerate(frames):
            first = 3 * (index % FRAMES_A_ROW)
            _show_frame(axes[index // FRAMES_A_ROW, first : first + 3], pictured)
        colours = {"found": FOUND, "missed": MISSED, "false": FALSE}
        figure.legend(
            handles=[Patch(color=colour, label=name) for name, colour in colours.items()],
            loc="outside lower center",
            ncols=3,
            frameon=False,
        )
        figure.savefig(path, dpi=110)


def _show_frame(axes: npt.NDArray[np.object_], pictured: PicturedFrame) -> None:
    _, frame, label, prediction, dice = pictured
    empty = np.zeros_like(label)
    pictures = {
        pictured.case: overlay(frame, empty, empty),
        "label" if label.any() else "label: no wire": overlay(frame, label, label),
        f"prediction, Dice {dice:.2f}": overlay(frame, label, prediction),
    }
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=8)
