"""Log attenuation of a chest: soft tissue, lung, heart, diaphragm, spine and ribs.

Each part that moves in its own way is one layer, drawn once a sequence on a canvas that is larger than the
frame by ``margin`` on every side, and shifted for every frame. Lengths are for 512 x 512 and scale with the
frame; attenuation is relative (only differences show).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from nnunet_fganet.phantom.geometry import (
    REFERENCE_SIZE,
    Floats,
    add_tube,
    integrate_heading,
    resample,
    wandering_heading,
)
from nnunet_fganet.phantom.motion import Motion

RIB_SHARE = 0.3  # ribs move this share of the diaphragm's way


@dataclass(frozen=True)
class Anatomy:
    """Layers of log attenuation, each of shape (size + 2 margin, size + 2 margin), float32."""

    size: int
    spine: Floats
    ribs: Floats
    tissue: Floats

    def at(self, motion: Motion, time: float) -> tuple[Floats, Floats]:
        """Log attenuation of all tissue and, of it, of bone, each of shape (size, size), at ``time`` in s."""
        pan = motion.pan(time)
        breathing = motion.breathing(time)
        bone = shifted(self.spine, pan, self.size) + shifted(self.ribs, pan + RIB_SHARE * breathing, self.size)
        tissue = shifted(self.tissue, pan + breathing + 0.5 * motion.heart(time), self.size)
        return bone + tissue, bone


def shifted(layer: Floats, displacement: Floats, size: int) -> Floats:
    """Cut the frame out of a layer whose content moved by ``displacement`` (x, y) px."""
    margin = (layer.shape[0] - size) / 2
    place = np.array([[1, 0, displacement[0] - margin], [0, 1, displacement[1] - margin]])
    return cv2.warpAffine(layer, place, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def draw_anatomy(rng: np.random.Generator, size: int, margin: int) -> Anatomy:
    """Draw the anatomy of one patient and view."""
    canvas = size + 2 * margin
    scale = size / REFERENCE_SIZE
    spine = np.zeros((canvas, canvas), np.float32)
    ribs = np.zeros_like(spine)
    middle = margin + rng.uniform(0.1, 0.9) * size
    tilt = rng.normal(0, 0.08)
    if rng.random() < 0.85:
        _add_spine(rng, spine, middle, tilt, scale)
    if rng.random() < 0.85:
        _add_ribs(rng, ribs, middle, tilt, scale)
    return Anatomy(size, spine, ribs, _tissue(rng, canvas, margin, scale))


def _tissue(rng: np.random.Generator, canvas: int, margin: int, scale: float) -> Floats:
    layer = np.zeros((canvas, canvas), np.float32)
    # Thickness and organs at falling scales; the finest is lung and muscle texture.
    for cells, amplitude in ((3, 0.28), (7, 0.07), (18, 0.035), (50, 0.02), (120, 0.012)):
        layer += amplitude * _cloud(rng, canvas, cells)
    _add_heart(rng, layer, scale)
    if rng.random() < 0.7:
        _add_diaphragm(rng, layer, margin, scale)
    for _ in range(rng.integers(6, 20)):
        _add_lung_vessel(rng, layer, scale)
    return layer


def _cloud(rng: np.random.Generator, canvas: int, cells: int) -> Floats:
    """Smooth noise of unit variance with about ``cells`` blobs across the canvas."""
    cells = min(cells, canvas)
    small = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    cloud = cv2.resize(small, (canvas, canvas), interpolation=cv2.INTER_CUBIC)
    return cloud / max(float(cloud.std()), 1e-6)


def _add_heart(rng: np.random.Generator, layer: Floats, scale: float) -> None:
    canvas = layer.shape[0]
    rows, columns = np.mgrid[:canvas, :canvas].astype(np.float32)
    centre = rng.uniform(0.25, 0.75, 2) * canvas
    half_axes = rng.uniform(130, 260, 2) * scale
    angle = rng.uniform(0, np.pi)
    along = (columns - centre[0]) * np.cos(angle) + (rows - centre[1]) * np.sin(angle)
    across = (rows - centre[1]) * np.cos(angle) - (columns - centre[0]) * np.sin(angle)
    around = np.arctan2(across, along)
    lobes = 1 + sum(
        rng.normal(0, 0.12 / order) * np.sin(order * around + rng.uniform(0, 6.3)) for order in (1, 2, 3, 5)
    )
    radius = np.hypot(along / half_axes[0], across / half_axes[1]) / lobes
    edge = rng.uniform(3, 14) * scale / half_axes.min()
    depth = 0.5 + 0.5 * np.sqrt(np.maximum(1 - radius**2, 0))
    layer += rng.uniform(0.25, 0.7) * depth / (1 + np.exp(np.clip((radius - 1) / edge, -30, 30)))


def _add_diaphragm(rng: np.random.Generator, layer: Floats, margin: int, scale: float) -> None:
    """Add the dome below which the liver and the stomach darken the frame; its edge is sharp."""
    canvas = layer.shape[0]
    rows, columns = np.mgrid[:canvas, :canvas].astype(np.float32)
    top = margin + rng.uniform(0.65, 1.0) * (canvas - 2 * margin)
    middle = rng.uniform(0.0, 1.0) * canvas
    radius = rng.uniform(280, 600) * scale
    depth = np.hypot(columns - middle, rows - top - radius) - radius
    edge = rng.uniform(1.0, 4.0) * scale
    layer += rng.uniform(0.3, 0.8) / (1 + np.exp(np.clip(depth / edge, -30, 30)))


def _add_lung_vessel(rng: np.random.Generator, layer: Floats, scale: float) -> None:
    """Add a vessel or fissure: a faint line, thinner towards its end, that looks like a wire's shaft."""
    canvas = layer.shape[0]
    start = rng.uniform(0, canvas, 2)
    length = rng.uniform(50, 220) * scale
    heading = wandering_heading(rng, length, rng.uniform(0, 2 * np.pi), rng.uniform(60, 200) * scale)
    curve = integrate_heading(start, heading)
    diameter = max(1.5, rng.uniform(2, 9) * scale)
    absorption = rng.uniform(0.03, 0.12)
    parts = np.array_split(np.arange(len(curve)), 3)
    for number, part in enumerate(parts):
        if len(part) >= 2:
            thinner = 1 - 0.25 * number
            add_tube(layer, curve[part], max(1.0, diameter * thinner), absorption * thinner)


def _add_spine(rng: np.random.Generator, layer: Floats, middle: float, tilt: float, scale: float) -> None:
    """Add vertebrae with denser end plates, pedicles and spinous processes, and lighter discs between them."""
    canvas = layer.shape[0]
    width = rng.uniform(80, 145) * scale
    height = width * rng.uniform(0.6, 0.75)
    disc = height * rng.uniform(0.15, 0.28)
    spine = np.zeros_like(layer)
    top, bottom = (np.array([middle + tilt * (y - canvas / 2), y]) for y in (-height, canvas + height))
    add_tube(spine, resample(np.array([top, bottom]), 0.5), width, 0.5)  # discs and muscle along the column
    centre = rng.uniform(-height, 0)
    while centre < canvas + height:
        at = np.array([middle + tilt * (centre - canvas / 2) + rng.normal(0, 0.015) * width, centre])
        _add_vertebra(rng, spine, at, width * rng.uniform(0.95, 1.05), height * rng.uniform(0.95, 1.05), tilt)
        centre += height + disc
    spine = cv2.GaussianBlur(spine, (0, 0), max(0.6, rng.uniform(1.5, 3.5) * scale))
    layer += rng.uniform(0.35, 0.8) * spine * (1 + 0.07 * _cloud(rng, canvas, 90))


def _add_vertebra(
    rng: np.random.Generator, layer: Floats, at: Floats, width: float, height: float, tilt: float
) -> None:
    half = np.array([width, height]) / 2
    turn = np.array([[1, -tilt], [tilt, 1]])

    def placed(points: Floats) -> Floats:
        """Turn points given in half widths and half heights into canvas pixels."""
        return at + (points * half) @ turn

    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    # A superellipse, drawn in at the waist, is a rectangle with round corners.
    corner = np.sign([np.cos(angle), np.sin(angle)]) * np.abs([np.cos(angle), np.sin(angle)]) ** 0.35
    corner[0] *= 1 - rng.uniform(0.06, 0.14) * (1 - corner[1] ** 2)
    body = np.zeros_like(layer)
    cv2.fillPoly(body, [np.rint(placed(corner.T) * 16).astype(np.int32)], 0.35, shift=4)
    thickness = max(1, round(0.045 * height))
    for side in (-1, 1):
        plate = placed(
            np.stack([np.linspace(-0.92, 0.92, 16), side * (0.98 - 0.1 * np.cos(np.linspace(-1.5, 1.5, 16)))], 1)
        )
        cv2.polylines(body, [np.rint(plate * 16).astype(np.int32)], False, rng.uniform(0.5, 0.7), thickness, shift=4)
    layer += body
    for side in (-1, 1):
        _add_ellipse(layer, placed(np.array([side * 0.52, -0.3])), 0.11 * width, rng.uniform(0.15, 0.4))
    _add_ellipse(layer, placed(np.array([rng.normal(0, 0.04), 0.55])), 0.09 * width, rng.uniform(0.2, 0.45))


def _add_ellipse(layer: Floats, at: Floats, radius: float, amount: float) -> None:
    """Add a ring-like bony ellipse, taller than wide: a pedicle or spinous process seen end on."""
    centre = (round(float(at[0])), round(float(at[1])))
    mask = np.zeros_like(layer)
    axes = (max(1, round(0.8 * radius)), max(1, round(1.3 * radius)))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 0.5 * amount, cv2.FILLED)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, amount, max(1, round(0.3 * radius)))
    layer += mask


def _add_ribs(rng: np.random.Generator, layer: Floats, middle: float, tilt: float, scale: float) -> None:
    """Ribs on both sides of the spine: hollow bands, darkest along their edges."""
    canvas = layer.shape[0]
    spacing = rng.uniform(70, 110) * scale
    diameter = rng.uniform(20, 36) * scale
    absorption = rng.uniform(0.1, 0.28)
    drop = rng.uniform(0.1, 0.6)
    for side in (-1, 1):
        offset = rng.uniform(-spacing, 0)
        for top in np.arange(offset - spacing, canvas + spacing, spacing):
            foot = np.array([middle + tilt * (top - canvas / 2) + side * 30 * scale, top])
            across = np.linspace(0, rng.uniform(0.55, 0.9) * canvas, 60)
            bend = across / canvas
            down = drop * across + rng.uniform(0.3, 0.5) * canvas * bend**2.2 - 0.15 * canvas * np.sin(np.pi * bend) / 2
            curve = foot + np.stack([side * across, down], axis=1)
            curve = resample(curve, 1.0)
            inside = np.all((curve > -diameter) & (curve < canvas + diameter), axis=1)
            if inside.sum() > 2:
                add_tube(layer, curve[inside], diameter, absorption, wall=0.16 * diameter, soft=max(0.5, 1.1 * scale))
