"""Sets what lies outside the collimated window of a frame to zero.

Collimator blades and the round image intensifier leave parts of a frame unexposed. nnU-Net crops to
the pixels that are not zero and normalises over them, which a dark grey or noisy border defeats
(after JPEG compression "black" is seldom zero). Training frames and new frames go through the same
function, :func:`clean_border`.

Two facts of physics tell an unexposed border from dark anatomy at the edge of a frame:

* every blade cuts off a half plane and the intensifier is a disk, so the window, an intersection of
  them, is convex; a vessel, catheter or diaphragm that reaches the edge of the frame leaves the rest
  non-convex;
* no direct radiation reaches the border: it is the darkest thing in the frame, flat on the scale of
  the frame's grey values, and ends in a step.

Soft edges (a penumbra through which anatomy is visible) do not qualify and are left as they are.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Borders are searched for in a reduced frame; lengths are its pixels.
_LONGEST_SIDE = 256
_SMALLEST_BORDER = 5e-4  # share of the frame; noise makes smaller dark corners too
_STEP_NEAR, _STEP_FAR = 1, 4  # the step is measured between these distances from the border

# Grey levels: 255 is the frame's brightest value (its 99.5th percentile, spared by labels burnt in).
_THRESHOLDS = range(6, 120, 6)
_DARKEST = 64  # the median of an unexposed border is at most this
_FLATNESS = 16  # between the 10th and the 90th percentile of the border
_STEP = 14  # from the border's 90th percentile to the 10th of the pixels along it
_DARKER_INSIDE = 0.05  # share of the window that may be darker than the border (contrast agent, metal)
_CONCAVITY = 0.15  # share of the border that may lie in the window's convex hull


@dataclass(frozen=True)
class Window:
    """The collimated window of a frame.

    Attributes
    ----------
    mask
        (H, W) boolean, true inside; all true where no border was found.
    removed
        Share of the frame's pixels outside, 0 to 1.
    """

    mask: NDArray[np.bool_]
    removed: float


def clean_border(frame: NDArray[np.integer]) -> tuple[NDArray[np.integer], Window]:
    """Set the pixels outside the collimated window to zero; pixels inside keep their values.

    Parameters
    ----------
    frame
        (H, W), uint8 or uint16, dark wire on bright background.

    Returns
    -------
    frame, window
        A new array of the same type (the given one where there is no border), and the window found.
    """
    window = find_window(frame)
    if window.removed == 0:
        return frame, window
    return np.where(window.mask, frame, 0).astype(frame.dtype), window


def find_window(frame: NDArray[np.integer]) -> Window:
    """Find the convex window that an unexposed border leaves; the whole frame where there is none."""
    whole = Window(np.ones(frame.shape, dtype=bool), 0.0)
    brightest = np.percentile(frame[::2, ::2], 99.5)
    if brightest == 0 or min(frame.shape) < 8 * _STEP_FAR:
        return whole
    levels = cv2.convertScaleAbs(frame, alpha=255 / brightest)
    reduction = max(1.0, max(frame.shape) / _LONGEST_SIDE)
    size = (round(frame.shape[1] / reduction), round(frame.shape[0] / reduction))
    reduced = cv2.resize(levels, size, interpolation=cv2.INTER_AREA)
    borders = _find_borders(cv2.medianBlur(reduced, 5))
    if not borders:
        return whole
    mask = _outline_window(cv2.medianBlur(levels, 3), borders, round(reduction))
    return Window(mask, float(1 - mask.mean()))


@dataclass(frozen=True)
class _Border:
    """One unexposed piece at the edge of the reduced frame, and the level half-way up its step."""

    mask: NDArray[np.uint8]
    half_level: float
    step: float


def _find_borders(levels: NDArray[np.uint8]) -> list[_Border]:
    """Of all dark pieces at the edge, at all thresholds, those that pass; of nested ones the sharpest."""
    candidates = [
        border
        for threshold in _THRESHOLDS
        for piece in _pieces_at_edge(levels <= threshold)
        if (border := _judge(levels, piece)) is not None
    ]
    candidates.sort(key=lambda border: -border.step)
    taken = np.zeros(levels.shape, dtype=bool)
    chosen = []
    for border in candidates:
        if not taken[border.mask > 0].any():
            taken |= border.mask > 0
            chosen.append(border)
    return chosen


def _pieces_at_edge(dark: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    """Connected dark pieces that touch the edge of the frame and are large enough, as 0/1 masks."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark.view(np.uint8), connectivity=4)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    large = [n for n in np.unique(edge) if n > 0 and stats[n, cv2.CC_STAT_AREA] >= _SMALLEST_BORDER * dark.size]
    return [(labels == n).view(np.uint8) for n in large]


def _judge(levels: NDArray[np.uint8], piece: NDArray[np.uint8]) -> _Border | None:
    """Return the piece as a border if it is dark, flat, ends in a step and leaves a convex window."""
    low, median, high = np.percentile(levels[piece > 0], [10, 50, 90])
    if median > _DARKEST or high - low > _FLATNESS:
        return None
    along = _grown(piece, _STEP_FAR) & ~_grown(piece, _STEP_NEAR) & 1
    if not along.any():
        return None
    nearly_all, typical = np.percentile(levels[along > 0], [10, 50])
    step = nearly_all - high
    if step < _STEP or (levels[piece == 0] < median).mean() > _DARKER_INSIDE:
        return None
    window = _largest_piece(1 - piece)
    if (_convex_hull(window) & piece).sum() > _CONCAVITY * piece.sum():
        return None
    return _Border(piece, half_level=(median + min(typical, 2 * nearly_all)) / 2, step=step)


def _outline_window(levels: NDArray[np.uint8], borders: list[_Border], reduction: int) -> NDArray[np.bool_]:
    """Outline the window in the full frame: its edge is where the step is half-way up."""
    outside = np.zeros(levels.shape, dtype=np.uint8)
    for border in borders:
        near = cv2.resize(_grown(border.mask, 2), levels.shape[::-1], interpolation=cv2.INTER_NEAREST)
        outside |= near & (levels <= border.half_level)
    # Opening takes away what sticks to the window from outside, such as labels burnt into the frame.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    window = cv2.morphologyEx(1 - outside, cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_REPLICATE)
    return _convex_hull(_largest_piece(window)).astype(bool)


def _grown(mask: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1)))


def _largest_piece(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if len(stats) == 1:
        return mask
    return (labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])).view(np.uint8)


def _convex_hull(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    if contours:
        cv2.fillConvexPoly(filled, cv2.convexHull(np.concatenate(contours)), 1)
    return filled
