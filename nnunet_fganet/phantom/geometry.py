"""Plane curves: built from their heading, resampled, and drawn with exact distances.

Points are (x, y) in pixels, x to the right and y down; the centre of the top left pixel is (0, 0).
Lengths named "at 512" are given for a frame of 512 x 512 and scale with the frame.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

REFERENCE_SIZE = 512
STEP = 0.5  # arc length between two points of a curve, px

Floats = NDArray[Any]  # floating point; cv2's annotations do not say which dtype it returns


def smooth_noise(rng: np.random.Generator, count: int, correlation: float) -> Floats:
    """Gaussian process of unit variance on ``count`` points, with the given correlation length in points."""
    margin = int(np.ceil(4 * correlation))
    noise = gaussian_filter1d(rng.standard_normal(count + 2 * margin), correlation, mode="wrap")
    # A Gaussian kernel of width s keeps 1 / (2 s sqrt(pi)) of white noise's variance (s well above one point).
    gain = np.sqrt(2 * np.sqrt(np.pi) * max(correlation, 0.3))
    return gain * noise[margin : margin + count]


def integrate_heading(start: Floats, heading: Floats, step: float = STEP) -> Floats:
    """Curve that begins at ``start`` and keeps to ``heading``.

    Parameters
    ----------
    start
        First point, shape (2,), px.
    heading
        Direction of each step in radians (0 = to the right, pi/2 = down), shape (n,).

    Returns
    -------
    Points, shape (n + 1, 2), px.
    """
    steps = step * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    return np.concatenate([start[None], start + np.cumsum(steps, axis=0)])


def wandering_heading(rng: np.random.Generator, length: float, first: float, radius: float) -> Floats:
    """Heading of a smooth random curve, one value a step.

    Parameters
    ----------
    length
        Arc length, px.
    first
        Heading at the beginning, radians.
    radius
        Typical radius of curvature, px; the curvature changes over about half of it.
    """
    count = max(2, round(length / STEP))
    curvature = smooth_noise(rng, count, 0.5 * radius / STEP) / radius
    return first + np.cumsum(curvature) * STEP


def resample(curve: Floats, step: float) -> Floats:
    """Points at equal arc length of about ``step`` px, first and last point kept."""
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    wanted = np.linspace(0.0, arc[-1], max(2, round(arc[-1] / step) + 1))
    return np.stack([np.interp(wanted, arc, curve[:, 0]), np.interp(wanted, arc, curve[:, 1])], axis=1)


def tangents(curve: Floats) -> Floats:
    """Return the unit tangents of a curve of at least two points, shape (n, 2)."""
    direction = np.gradient(curve, axis=0)
    return direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)


def near_curve(curve: Floats, shape: tuple[int, int], reach: float) -> tuple[NDArray, NDArray, Floats, NDArray]:
    """Pixels of a frame that lie within ``reach`` px of a curve.

    Parameters
    ----------
    curve
        Points about ``STEP`` apart, shape (n, 2), px; may leave the frame.
    shape
        Rows and columns of the frame.
    reach
        Largest distance, px.

    Returns
    -------
    Rows, columns, distance to the curve (px, exact between points and round at the ends) and index of the
    nearest point, each of shape (pixels,).
    """
    band = np.zeros(shape, np.uint8)
    cv2.polylines(band, [np.rint(curve).astype(np.int32)], False, 1, thickness=2 * int(np.ceil(reach)) + 3)
    rows, columns = np.nonzero(band)
    pixels = np.stack([columns, rows], axis=1).astype(float)
    _, index = cKDTree(curve).query(pixels)
    offset = pixels - curve[index]
    tangent = tangents(curve)[index]
    along = np.abs(np.sum(offset * tangent, axis=1))
    across = offset[:, 0] * tangent[:, 1] - offset[:, 1] * tangent[:, 0]
    distance = np.hypot(across, np.maximum(along - STEP, 0))
    near = distance <= reach
    return rows[near], columns[near], distance[near], index[near]


def add_tube(
    layer: Floats, curve: Floats, diameter: float, absorption: float, wall: float | None = None, soft: float = 0.0
) -> None:
    """Add a tube's X-ray absorption to ``layer``, in place.

    Parameters
    ----------
    layer
        Log attenuation, shape (rows, columns).
    diameter
        Outer diameter, px.
    absorption
        Log attenuation through the centre of the solid tube.
    wall
        Thickness of the wall of a hollow tube, px; none means solid. The hollow tube is darkest at its
        edges, as the cortex of a rib or the wall of a catheter is.
    soft
        Width over which the outline is blurred, px.
    """
    radius = diameter / 2
    rows, columns, distance, _ = near_curve(curve, (layer.shape[0], layer.shape[1]), radius + 0.5 + 2 * soft)
    chord = np.sqrt(np.maximum((radius + 0.5) ** 2 - distance**2, 0))
    if wall is not None:
        chord = chord - np.sqrt(np.maximum((radius - wall) ** 2 - distance**2, 0))
    if soft == 0.0:
        layer[rows, columns] += absorption * chord / (radius + 0.5)
        return
    sharp = np.zeros(layer.shape, np.float32)
    sharp[rows, columns] = absorption * chord / (radius + 0.5)
    layer += cv2.GaussianBlur(sharp, (0, 0), soft)
