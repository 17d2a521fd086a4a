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

Mask = NDArray[np.bool_]
Levels = NDArray[np.uint8]

# Borders are searched for in a reduced frame; lengths are its pixels.
_LONGEST_SIDE = 192
_SMALLEST_BORDER = 5e-4  # share of the frame; noise makes smaller dark corners too
_STEP_NEAR, _STEP_FAR = 1, 4  # the step is measured between these distances from the border

# Grey levels: 255 is the frame's brightest value (its 99.5th percentile, spared by labels burnt in).
_THRESHOLDS = range(8, 100, 12)  # closer than the smallest step
_DARKEST = 64  # the median of an unexposed border is at most this
_FLATNESS = 8  # between the 10th and the 90th percentile of the border
_STEP = 14  # from the border's 90th percentile to the 10th of the pixels along it
_DARKER_INSIDE = 0.05  # share of the window that may be darker than the border (contrast agent, metal)
_SAME = 0.02  # pieces at two thresholds that differ by less are one border
_CONCAVITY = 0.15  # share of the border that may lie in the window's convex hull
# Pieces of a window that a dark device cuts in two are at least this share of the largest; smaller ones are labels
# burnt into the border.
_PIECE = 0.02


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

    mask: Mask
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
    return frame * window.mask, window


def find_window(frame: NDArray[np.integer]) -> Window:
    """Find the convex window that an unexposed border leaves; the whole frame where there is none."""
    whole = Window(np.ones(frame.shape, dtype=bool), 0.0)
    brightest = np.percentile(frame[::4, ::4], 99.5)
    if brightest == 0 or min(frame.shape) < 8 * _STEP_FAR:
        return whole
    levels = np.asarray(cv2.convertScaleAbs(frame, alpha=255 / brightest), dtype=np.uint8)
    reduction = max(1.0, max(frame.shape) / _LONGEST_SIDE)
    size = (round(frame.shape[1] / reduction), round(frame.shape[0] / reduction))
    reduced = cv2.medianBlur(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), 5)
    borders = _find_borders(np.asarray(reduced, dtype=np.uint8))
    if not borders:
        return whole
    mask = _outline_window(np.asarray(cv2.medianBlur(levels, 3), dtype=np.uint8), borders)
    return Window(mask, 1 - np.count_nonzero(mask) / mask.size)


@dataclass(frozen=True)
class _Border:
    """One unexposed piece at the edge of the reduced frame, and the level half-way up its step."""

    mask: Mask
    half_level: float


def _find_borders(levels: Levels) -> list[_Border]:
    """All dark pieces at the edge, at any threshold, that pass."""
    borders: list[_Border] = []
    found = np.zeros(levels.shape, dtype=bool)
    for threshold in _THRESHOLDS:
        dark = levels <= threshold
        if (dark & ~found).sum() < _SMALLEST_BORDER * dark.size:
            continue
        pieces = _pieces_at_edge(dark)
        inside = levels[~np.any(pieces, axis=0)]
        for piece in pieces:
            # A step is there at many thresholds; judging it once is enough.
            if (piece & ~found).sum() <= _SAME * piece.sum():
                continue
            border = _judge(levels, piece, inside)
            if border is not None:
                borders.append(border)
                found |= piece
    return borders


def _pieces_at_edge(dark: Mask) -> list[Mask]:
    """Connected dark pieces that touch the edge of the frame and are large enough."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark.view(np.uint8), connectivity=4)
    at_edge = set(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]).tolist()) - {0}
    large = [n for n in at_edge if stats[n, cv2.CC_STAT_AREA] >= _SMALLEST_BORDER * dark.size]
    return [np.asarray(labels == n) for n in sorted(large)]


def _judge(levels: Levels, piece: Mask, inside: Levels) -> _Border | None:
    """Return the piece as a border if it is dark, flat, ends in a step and leaves a convex window.

    ``inside`` holds the grey levels of all pixels that belong to no dark piece at the edge.
    """
    low, median, high = np.percentile(levels[piece], [10, 50, 90])
    if median > _DARKEST or high - low > _FLATNESS:
        return None
    along = _grown(piece, _STEP_FAR) & ~_grown(piece, _STEP_NEAR)
    if not along.any() or inside.size == 0:
        return None
    nearly_all, typical = np.percentile(levels[along], [10, 50])
    if nearly_all - high < _STEP or (inside < median).mean() > _DARKER_INSIDE:
        return None
    if (_convex_hull(~piece) & piece).sum() > _CONCAVITY * piece.sum():
        return None
    return _Border(piece, half_level=(median + min(typical, 2 * nearly_all)) / 2)


def _outline_window(levels: Levels, borders: list[_Border]) -> Mask:
    """Outline the window in the full frame: its edge is where the step is half-way up."""
    half_levels = np.full(borders[0].mask.shape, -1, dtype=np.float32)  # -1: no border near
    for border in borders:
        near = _grown(border.mask, 2)
        half_levels[near] = np.maximum(half_levels[near], border.half_level)
    outside = levels <= cv2.resize(half_levels, levels.shape[::-1], interpolation=cv2.INTER_NEAREST)
    # Opening takes away what sticks to the window from outside, such as labels burnt into the frame.
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (5, 5))
    window = cv2.morphologyEx((~outside).view(np.uint8), cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_REPLICATE)
    return _convex_hull(np.asarray(window, dtype=bool))


def _grown(mask: Mask, pixels: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.view(np.uint8), kernel), dtype=bool)


def _convex_hull(mask: Mask) -> Mask:
    """Convex hull of all large pieces of a mask: what crosses the window from border to border does not end it."""
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    if contours:
        areas = [cv2.contourArea(contour) for contour in contours]
        large = [contour for contour, area in zip(contours, areas, strict=True) if area >= _PIECE * max(areas)]
        cv2.fillConvexPoly(filled, cv2.convexHull(np.concatenate(large)), 1)
    return filled.astype(bool)
