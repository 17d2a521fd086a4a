"""Contrast-to-noise ratio of a wire, measured on the finished frame."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from nnunet_fganet.phantom.geometry import Floats, resample, tangents

SEGMENT = 16  # px along the wire over which grey values are compared
GAP = 2.5  # px between the wire's edge and its flanks, so that the blurred wire does not reach them
FLANK_LINES = 4  # px: lines beside the wire, one pixel apart, on each side
LEAST_SAMPLES = 4  # inside the window that a flank line needs
LEAST_NOISE = 1.0  # grey values: where the frame is saturated there is none to compare with


def contrast_to_noise(
    frame: NDArray[np.uint8], centreline: Floats, width: float, window: NDArray[np.bool_]
) -> float | None:
    """Measure how far a wire stands out of its surroundings.

    The wire is cut into segments of 16 px. In each, the grey values along the centreline and along four lines on
    each side (1 px apart, the first 2.5 px from the wire's edge) are sampled bilinearly, one a pixel. The
    segment's ratio is (mean of the flanks - mean along the wire) / (standard deviation along the flank
    lines about each line's own mean, at least one grey value). The result is the absolute value of the mean
    ratio over the segments, so that noise alone gives about zero.

    Parameters
    ----------
    frame
        Grey values, shape (rows, columns).
    centreline
        Points (x, y) from entry to tip, shape (n, 2), px.
    width
        Of the wire, px.
    window
        Collimated window, shape (rows, columns); samples outside of it are left out, and
        lines with fewer than four samples left.

    Returns
    -------
    The ratio; none for a wire without a segment whose flanks are in the window.
    """
    if len(centreline) < 2:
        return None
    points = resample(centreline, 1.0)
    direction = tangents(points)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    beside = width / 2 + GAP + np.arange(FLANK_LINES)
    offsets = np.concatenate([[0.0], beside, -beside])
    places = points[None] + offsets[:, None, None] * normal[None]
    xy = [places[..., 1], places[..., 0]]
    grey = map_coordinates(frame.astype(np.float32), xy, order=1, mode="nearest")
    valid = map_coordinates(window.astype(np.float32), xy, order=1, mode="constant") > 0.999
    grey = np.where(valid, grey, np.nan)
    parts = np.array_split(np.arange(len(points)), max(1, len(points) // SEGMENT))
    ratios = [_segment_ratio(grey[:, part]) for part in parts]
    finite = [ratio for ratio in ratios if np.isfinite(ratio)]
    return float(abs(np.mean(finite))) if finite else None


def _segment_ratio(grey: Floats) -> float:
    """Ratio of one segment; ``grey`` holds the wire's line, then the flanks', shape (1 + lines, length)."""
    wire, flanks = grey[0], grey[1:]
    enough = np.isfinite(flanks).sum(axis=1) >= LEAST_SAMPLES
    if enough.sum() < 2 or not np.isfinite(wire).any():
        return np.nan
    flanks = flanks[enough]
    noise = np.sqrt(np.mean(np.nanvar(flanks, axis=1, ddof=1)))
    return float((np.nanmean(flanks) - np.nanmean(wire)) / max(noise, LEAST_NOISE))
