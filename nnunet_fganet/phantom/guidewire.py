"""The guidewire: its way through the vessel, its advance, its tip and its radiopaque distal end."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nnunet_fganet.errors import InputError
from nnunet_fganet.phantom.geometry import (
    REFERENCE_SIZE,
    STEP,
    Floats,
    integrate_heading,
    near_curve,
    smooth_noise,
    wandering_heading,
)
from nnunet_fganet.phantom.motion import FRAMES_PER_SECOND, Motion

TIP_SHAPES = ("straight", "J", "kinked")
LARGEST_SHARE = 0.015  # of the frame's pixels that a drawn wire may cover
THINNEST_DRAWN = 2.0  # px: nobody draws a thinner line with a mouse
BEHIND_CATHETER = 0.35  # share of wires that leave a guiding catheter in the window instead of entering from its edge


@dataclass(frozen=True)
class Guidewire:
    """A guidewire during one sequence.

    Attributes
    ----------
    width
        Diameter, px.
    start
        Where the vessel begins, outside of the window, shape (2,), px.
    heading
        Direction of the vessel at rest for each step from ``start``, radians.
    entry
        Arc length from ``start`` at which the wire begins to show: 0, or the mouth of a catheter, px.
    inserted
        Arc length from ``start`` to the tip for each frame, shape (frames,), px.
    bend
        Heading of the tip's own shape relative to the vessel, from the tip backwards, one value a step, radians.
    torque
        Projection of the turned tip for each frame, -1 to 1, shape (frames,).
    contrast
        Contrast-to-noise ratio aimed at, from the tip backwards, one value a step.
    """

    width: float
    start: Floats
    heading: Floats
    entry: float
    inserted: Floats
    bend: Floats
    torque: Floats
    contrast: Floats

    def curve(self, frame: int, motion: Motion) -> Floats:
        """Return the visible wire in a frame from entry to tip, points ``STEP`` apart, shape (n, 2), px."""
        steps = round(self.inserted[frame] / STEP)
        heading = self.heading[:steps].copy()
        bent = min(len(self.bend), steps)
        heading[steps - bent :] += self.torque[frame] * self.bend[:bent][::-1]
        points = motion.displace(integrate_heading(self.start, heading), frame / FRAMES_PER_SECOND)
        return points[round(self.entry / STEP) :]

    def catheter(self, frame: int, motion: Motion) -> Floats | None:
        """Return the guiding catheter that the wire leaves at its entry, shape (n, 2), px; none where it has none."""
        steps = round(self.entry / STEP)
        if steps < 2:
            return None
        return motion.displace(integrate_heading(self.start, self.heading[:steps]), frame / FRAMES_PER_SECOND)


def centreline_in_window(curve: Floats, window: NDArray[np.bool_]) -> Floats:
    """Return the last stretch of ``curve`` that lies in the window without a gap, which is the one with the tip."""
    outside = np.flatnonzero(~in_window(curve, window))
    return curve[outside[-1] + 1 :] if len(outside) else curve


def in_window(points: Floats, window: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each point, shape (n, 2), lies in the window."""
    nearest = np.rint(points).astype(int)
    size = window.shape[0]
    in_frame = np.all((nearest >= 0) & (nearest < size), axis=1)
    nearest = np.clip(nearest, 0, size - 1)
    return in_frame & window[nearest[:, 1], nearest[:, 0]]


def draw_mask(centreline: Floats, width: float, window: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Draw the wire as a physician does: as wide as it is, at least 2 px, inside the window, shape (size, size)."""
    mask = np.zeros(window.shape, bool)
    rows, columns, _, _ = near_curve(centreline, (window.shape[0], window.shape[1]), max(width, THINNEST_DRAWN) / 2)
    mask[rows, columns] = True
    return mask & window


def absorption_map(curve: Floats, width: float, peak: Floats, blur: float, size: int) -> Floats:
    """Log attenuation of the wire, shape (size, size), float32.

    A cylinder's chord length, integrated over the pixel, is nearly a Gaussian for wires of 1-3 px: its
    variance is width^2 / 16 + 1 / 12. ``peak`` is the value at the centre that shall be left once the
    machine has blurred by ``blur`` px, for each point of the curve; the drawn value is higher by the loss.
    """
    spread = np.sqrt(width**2 / 16 + 1 / 12)
    loss = spread / np.hypot(spread, blur)
    layer = np.zeros((size, size), np.float32)
    rows, columns, distance, index = near_curve(curve, (size, size), 4 * spread)
    layer[rows, columns] = peak[index] / loss * np.exp(-0.5 * (distance / spread) ** 2)
    return layer


def draw_guidewire(rng: np.random.Generator, window: NDArray[np.bool_], motion: Motion, frames: int) -> Guidewire:
    """Draw a guidewire whose visible part stays in the window in all frames, apart from where it enters.

    Parameters
    ----------
    window
        The collimated window, shape (size, size).

    Raises
    ------
    InputError
        A hundred tries found none that fits; drawn windows are large enough, recorded ones may not be.
    """
    size = window.shape[0]
    scale = size / REFERENCE_SIZE
    width = rng.uniform(1.0, 1.0 + 2.0 * min(1.0, np.sqrt(scale)))
    bend = _tip_bend(rng, scale)
    torque = np.cos(rng.uniform(-0.6, 0.6) + 0.5 * smooth_noise(rng, frames, 6.0)) * rng.choice([-1, 1])
    contrast = _contrast(rng, scale)
    depth = cv2.distanceTransform(np.pad(window.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    for attempt in range(100):
        straightness = 1 + attempt / 10  # harder windows get straighter, shorter wires
        start, heading, first_inside = _vessel(rng, window, motion, scale, straightness)
        entry, inserted = _insertion(rng, len(heading) * STEP, first_inside, width, size, frames)
        wire = Guidewire(width, start, heading, entry, inserted, bend, torque, contrast)
        if _stays_inside(wire, motion, depth, scale):
            return wire
    raise InputError(
        f"no guidewire fits into a collimated window of {window.sum()} of {size} x {size} px: "
        "ask for a larger --size, or give --backgrounds with a larger window."
    )


def _vessel(
    rng: np.random.Generator, window: NDArray[np.bool_], motion: Motion, scale: float, straightness: float
) -> tuple[Floats, Floats, float]:
    """Draw a way through the window -> (start outside of it, heading per step, arc length at which it comes in)."""
    size = window.shape[0]
    rows, columns = np.nonzero(window)
    centre = np.array([columns.mean(), rows.mean()]) + rng.normal(0, 0.06, 2) * size / straightness
    angle = rng.uniform(0, 2 * np.pi)
    outward = np.array([np.cos(angle), np.sin(angle)])
    ray = centre + np.arange(0, 1.5 * size)[:, None] * outward
    border = int(np.argmin(in_window(ray, window)))
    start = ray[border] + motion.reach * outward
    length = motion.reach + rng.uniform(0.9, 2.1) * border / straightness
    first = angle + np.pi + rng.normal(0, 0.35) / straightness
    heading = wandering_heading(rng, length, first, rng.uniform(110, 350) * scale * straightness)
    if rng.random() < 0.5 / straightness:
        heading = heading + _turn(rng, len(heading), scale)
    path = integrate_heading(start, heading)
    first_inside = float(np.argmax(in_window(path, window))) * STEP
    return start, heading, first_inside


def _turn(rng: np.random.Generator, count: int, scale: float) -> Floats:
    """Draw a bend such as the aortic arch or a branch: 50 to 170 degrees at a radius of 35 to 100 px (at 512)."""
    angle = np.deg2rad(rng.uniform(50, 170)) * rng.choice([-1, 1])
    steps = max(1.0, abs(angle) * rng.uniform(35, 100) * scale / STEP)
    begin = rng.uniform(0.3, 0.7) * count
    return angle * np.clip((np.arange(count) - begin) / steps, 0, 1)


def _insertion(
    rng: np.random.Generator,
    length: float,
    first_inside: float,
    width: float,
    size: int,
    frames: int,
) -> tuple[float, Floats]:
    """Where the wire begins to show, and how far it is in for each frame: advanced, held, drawn back (px)."""
    entry = 0.0
    if rng.random() < BEHIND_CATHETER:
        entry = first_inside + rng.uniform(0.05, 0.45) * max(0.0, length - first_inside)
    shown_from = max(entry, first_inside)
    high = min(length, shown_from + LARGEST_SHARE * size**2 / max(width, THINNEST_DRAWN))
    low = min(high, shown_from + 0.18 * size)
    scale = size / REFERENCE_SIZE
    speed = rng.choice([3.0, 0.0, -3.0], p=[0.5, 0.3, 0.2]) + 2.0 * smooth_noise(rng, frames, 3.0)
    way = rng.uniform(0.7 * low + 0.3 * high, high) + np.cumsum(speed) * scale
    # A wire that comes to an end of its range is drawn back (or advanced again): a triangle wave.
    folded = np.abs((way - low) % (2 * (high - low) + 1e-9) - (high - low))
    return entry, high - folded


def _tip_bend(rng: np.random.Generator, scale: float) -> Floats:
    """Heading of the tip relative to the vessel, from the tip backwards: straight, a J, or a sharp kink."""
    shape = rng.choice(TIP_SHAPES, p=[0.25, 0.45, 0.3])
    tip_scale = max(scale, 0.4)  # a smaller hook would vanish in the blur
    if shape == "straight":
        return np.zeros(1)
    if shape == "J":
        length = rng.uniform(16, 36) * tip_scale
        angle = np.deg2rad(rng.uniform(60, 170))
        place = np.arange(0, length, STEP) / length
        return angle * (1 - place) ** 1.3
    leg = rng.uniform(8, 22) * tip_scale
    angle = np.deg2rad(rng.uniform(35, 100))
    place = np.arange(0, leg + 1.5, STEP)
    return angle * np.clip((leg + 1.5 - place) / 1.5, 0, 1)


def _contrast(rng: np.random.Generator, scale: float) -> Floats:
    """Contrast-to-noise ratio aimed at, from the tip backwards: a dark distal end, then a faint shaft."""
    distal = rng.uniform(50, 120) * scale
    dark = rng.uniform(2.0, 5.2)
    faint = dark * rng.uniform(0.25, 0.6)
    place = np.arange(0, 4 * REFERENCE_SIZE * scale, STEP)
    uneven = np.exp(0.15 * smooth_noise(rng, len(place), 25 * scale / STEP))
    step = 1 / (1 + np.exp(np.clip((place - distal) / max(0.7, 1.5 * scale), -30, 30)))
    return (faint + (dark - faint) * step) * uneven


def _stays_inside(wire: Guidewire, motion: Motion, depth: NDArray, scale: float) -> bool:
    """Whether, in every frame, the wire is inside from where it comes in to its tip (``depth``: px to the edge)."""
    size = depth.shape[0]
    clear = max(4.0, 10 * scale)
    for frame in range(len(wire.inserted)):
        curve = wire.curve(frame, motion)
        nearest = np.rint(curve).astype(int)
        in_frame = np.all((nearest >= 0) & (nearest < size), axis=1)
        nearest = np.clip(nearest, 0, size - 1)
        inside = np.where(in_frame, depth[nearest[:, 1], nearest[:, 0]], 0)
        deep = np.flatnonzero(inside > clear)
        if len(deep) == 0 or np.any(inside[deep[0] :] <= clear) or len(curve) - deep[0] < 0.1 * size / STEP:
            return False
    return True
