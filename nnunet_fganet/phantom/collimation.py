"""The collimated window: what the shutters let through, and what lies outside."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nnunet_fganet.phantom.geometry import REFERENCE_SIZE, Floats


@dataclass(frozen=True)
class Collimation:
    """A collimated window.

    Attributes
    ----------
    aperture
        Share of the beam that passes, 0 to 1 with a penumbra between, shape (size, size), float32.
    window
        Where the frame shows the patient (at least half of the beam), shape (size, size), bool.
    is_black_outside
        The machine paints the outside black; otherwise it shows the shutters: dark and noisy.
    """

    aperture: Floats
    window: NDArray[np.bool_]
    is_black_outside: bool


def draw_collimation(rng: np.random.Generator, size: int) -> Collimation:
    """Draw one of: open field, rectangular shutters (perhaps turned), round image intensifier."""
    kind = rng.choice(["open", "shutters", "round"], p=[0.3, 0.45, 0.25])
    shape = {"open": _open_field, "shutters": _shutters, "round": _round_field}[kind](rng, size)
    scale = size / REFERENCE_SIZE
    aperture = cv2.GaussianBlur(shape, (0, 0), max(0.5, rng.uniform(0.5, 2.5) * scale), borderType=cv2.BORDER_REPLICATE)
    return Collimation(aperture, aperture >= 0.5, is_black_outside=bool(rng.random() < 0.6))


def _open_field(rng: np.random.Generator, size: int) -> Floats:
    return np.ones((size, size), np.float32)


def _shutters(rng: np.random.Generator, size: int) -> Floats:
    """Open rectangle; each pair of blades closes by its own amount."""
    left, right, top, bottom = rng.uniform(0.0, 0.2, 4) * rng.integers(0, 2, 4)
    corners = np.array([[left, top], [1 - right, top], [1 - right, 1 - bottom], [left, 1 - bottom]]) * size - 0.5
    angle = np.deg2rad(rng.uniform(-12, 12)) if rng.random() < 0.3 else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = (corners - corners.mean(axis=0)) @ turn.T + corners.mean(axis=0)
    return _filled(corners, size)


def _round_field(rng: np.random.Generator, size: int) -> Floats:
    """Disc of an image intensifier; often its sides are cut off by the frame."""
    centre = size / 2 + rng.uniform(-0.04, 0.04, 2) * size
    radius = rng.uniform(0.46, 0.62) * size
    angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    return _filled(centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), size)


def _filled(corners: Floats, size: int) -> Floats:
    field = np.zeros((size, size), np.float32)
    bits = 8
    cv2.fillPoly(field, [np.rint(corners * 2**bits).astype(np.int32)], 1.0, lineType=cv2.LINE_8, shift=bits)
    return field
