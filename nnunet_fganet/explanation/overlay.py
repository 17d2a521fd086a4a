"""Maps over frames, as pictures."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nnunet_fganet.explanation.explaining import Explanation

# From magenta to yellow: what is weak tints the frame, and no colour looks like a shade of grey.
COLOURS = ListedColormap(matplotlib.colormaps["plasma"](np.linspace(0.35, 1, 256)))
WIRE = "#00e5ff"  # not among the map's colours, and seen by who does not tell red from green
OPACITY = 0.85
OPAQUE_FROM = 0.6
"""Strength from which a map is as opaque as it gets; below, opacity is proportional to it."""
_PANEL_INCHES = 5.0
_MINIMAL_INCHES = 9.0  # of width, for the line below
_MINIMAL_DPI = 120


def as_grey(frame: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Stretch a frame to [0, 1] between the 0.5th and 99.5th percentile of what is not black, ``(H, W)``."""
    shown = frame[frame > 0]
    low, high = np.percentile(shown, [0.5, 99.5]) if shown.size else (0, 1)
    return np.clip((frame - low) / max(high - low, 1), 0, 1)


def blend(grey: npt.NDArray[np.floating], cam: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Lay a map over a grey picture: the stronger, the more opaque.

    Parameters
    ----------
    grey, cam
        Of one shape, in [0, 1].

    Returns
    -------
    numpy.ndarray
        Their shape and a last axis of three colours, in [0, 1].
    """
    opacity = OPACITY * np.minimum(cam / OPAQUE_FROM, 1)[..., None]
    return opacity * COLOURS(np.asarray(cam, dtype=np.float64))[..., :3] + (1 - opacity) * grey[..., None]


def write_explanation(path: Path, frame: npt.NDArray[np.integer], explanation: Explanation, title: str) -> None:
    """Write a PNG: the frame with the map and the outline of the wire, and beside it the frame with the prediction.

    Parameters
    ----------
    path
        File to write, whatever its ending.
    frame
        ``(H, W)``, uint8 or uint16.
    explanation
        See :func:`nnunet_fganet.explanation.explaining.explain_frame`.
    title
        What was explained: frame and model.
    """
    grey, wire = as_grey(frame), explanation.prediction
    rows, columns = frame.shape
    width = _PANEL_INCHES * min(columns / rows, 2)
    size = (max(2 * width + 1.2, _MINIMAL_INCHES), width * rows / columns + 0.9)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    empty = "" if explanation.cam.any() else ": empty"
    _show(left, blend(grey, explanation.cam), wire, f"Grad-CAM++ of {explanation.layer.name}{empty}")
    found = f"predicted wire, {wire.sum()} pixels" if wire.any() else "no wire predicted"
    _show(right, np.repeat(grey[..., None], 3, axis=2), wire, found)
    middle = np.full(256, 0.5)
    bar = ListedColormap(blend(middle, np.linspace(0, 1, 256)))
    figure.colorbar(ScalarMappable(cmap=bar), ax=left, label="strength, relative", fraction=0.046, pad=0.02)
    figure.suptitle(title, fontsize=11, parse_math=False)  # names of files may hold dollar signs
    pixels, outline = ("predicted", " Outline: the prediction.") if wire.any() else ("strongest", "")
    figure.supxlabel(
        f"Colour: where features of this layer are active that raise the wire logits of the {pixels} pixels.{outline}",
        fontsize=9,
    )
    dpi = max(_MINIMAL_DPI, math.ceil(columns / width))
    figure.savefig(path, format="png", dpi=dpi)


def _show(axis: Axes, picture: npt.NDArray[np.float64], wire: npt.NDArray[np.bool_], title: str) -> None:
    axis.imshow(picture, interpolation="nearest")
    if wire.any() and min(wire.shape) > 1:  # no outline fits into a single row
        axis.contour(wire, levels=[0.5], colors=WIRE, linewidths=0.8)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
