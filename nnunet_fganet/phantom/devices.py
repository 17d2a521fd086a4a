"""Devices that are not the guidewire and look like one: catheters, leads, clips, stents, sternal wires.

Lengths are for 512 x 512 and scale with the frame; attenuation is relative, as in :mod:`.anatomy`.
"""

from dataclasses import dataclass

import numpy as np

from nnunet_fganet.phantom.anatomy import shifted
from nnunet_fganet.phantom.geometry import (
    REFERENCE_SIZE,
    Floats,
    add_tube,
    integrate_heading,
    resample,
    wandering_heading,
)
from nnunet_fganet.phantom.motion import Motion


@dataclass(frozen=True)
class Devices:
    """Log attenuation of devices at rest on the body and on the heart, on the canvas of the anatomy."""

    size: int
    on_body: Floats
    on_heart: Floats

    def at(self, motion: Motion, time: float) -> Floats:
        """Log attenuation at ``time`` in s, shape (size, size)."""
        pan = motion.pan(time)
        with_heart = pan + 0.7 * motion.breathing(time) + motion.heart(time)
        return shifted(self.on_body, pan, self.size) + shifted(self.on_heart, with_heart, self.size)


def catheter_diameter(rng: np.random.Generator, size: int) -> float:
    """Outer diameter of a 4 to 7 French catheter in px; at least 3.5 px, to be wider than any wire of small frames."""
    return max(3.5, rng.uniform(6.5, 10) * size / REFERENCE_SIZE)


def add_catheter(layer: Floats, curve: Floats, diameter: float, absorption: float) -> None:
    """Add a hollow catheter, in place: darkest along its walls."""
    add_tube(layer, curve, diameter, absorption, wall=0.3 * diameter)


def draw_devices(rng: np.random.Generator, size: int, margin: int) -> Devices:
    """Draw the devices of one sequence, none in some."""
    canvas = size + 2 * margin
    scale = size / REFERENCE_SIZE
    on_body = np.zeros((canvas, canvas), np.float32)
    on_heart = np.zeros_like(on_body)
    if rng.random() < 0.55:
        curve = _crossing_curve(rng, canvas, scale)
        add_catheter(on_heart, curve, catheter_diameter(rng, size), rng.uniform(0.2, 0.5))
    if rng.random() < 0.3:
        _add_lead(rng, on_heart if rng.random() < 0.5 else on_body, scale)
    if rng.random() < 0.35:
        for _ in range(rng.integers(1, 7)):
            _add_clip(rng, on_body, scale)
    if rng.random() < 0.3:
        _add_stent(rng, on_heart, scale)
    if rng.random() < 0.2:
        _add_sternal_wires(rng, on_body, scale)
    return Devices(size, on_body, on_heart)


def _crossing_curve(rng: np.random.Generator, canvas: int, scale: float) -> Floats:
    """Draw a curve from an edge of the canvas towards its inside."""
    angle = rng.uniform(0, 2 * np.pi)
    outward = np.array([np.cos(angle), np.sin(angle)])
    start = canvas / 2 + 0.68 * canvas * outward
    first = angle + np.pi + rng.normal(0, 0.3)
    length = rng.uniform(0.5, 1.3) * canvas
    return integrate_heading(start, wandering_heading(rng, length, first, rng.uniform(90, 260) * scale))


def _add_lead(rng: np.random.Generator, layer: Floats, scale: float) -> None:
    """Add a pacemaker or electrode lead: a wire of nearly even darkness with a thick electrode at its end."""
    curve = _crossing_curve(rng, layer.shape[0], scale)
    diameter = max(1.2, rng.uniform(2, 4.5) * scale)
    absorption = rng.uniform(0.12, 0.4)
    add_tube(layer, curve, diameter, absorption)
    electrode = curve[-max(4, round(14 * scale / 0.5)) :]
    add_tube(layer, electrode, 1.6 * diameter, 2 * absorption)


def _add_clip(rng: np.random.Generator, layer: Floats, scale: float) -> None:
    """Add a surgical clip: a short straight bar."""
    at = rng.uniform(0.1, 0.9, 2) * layer.shape[0]
    heading = np.full(max(6, round(rng.uniform(7, 16) * scale / 0.5)), rng.uniform(0, 2 * np.pi))
    add_tube(layer, integrate_heading(at, heading), max(1.2, rng.uniform(1.8, 3.5) * scale), rng.uniform(0.5, 1.2))


def _add_stent(rng: np.random.Generator, layer: Floats, scale: float) -> None:
    """Add a stent: rings of zigzag struts around a curved axis."""
    canvas = layer.shape[0]
    heading = wandering_heading(
        rng, rng.uniform(50, 110) * scale, rng.uniform(0, 2 * np.pi), rng.uniform(80, 200) * scale
    )
    axis = resample(integrate_heading(rng.uniform(0.2, 0.8, 2) * canvas, heading), 0.5)
    radius = max(2.0, rng.uniform(5, 10) * scale)
    arc = np.arange(len(axis)) * 0.5
    direction = np.gradient(axis, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    pitch = max(3.0, rng.uniform(7, 12) * scale)
    absorption = rng.uniform(0.1, 0.35)
    for phase in (0.0, np.pi):  # front and back of the mesh
        strut = axis + radius * np.cos(2 * np.pi * arc / pitch + phase)[:, None] * normal
        add_tube(layer, resample(strut, 0.5), max(1.0, 1.4 * scale), absorption)


def _add_sternal_wires(rng: np.random.Generator, layer: Floats, scale: float) -> None:
    """Add the steel loops that close the breastbone after surgery, one below the other."""
    canvas = layer.shape[0]
    x = rng.uniform(0.2, 0.8) * canvas
    absorption = rng.uniform(0.35, 0.9)
    angle = np.linspace(0, 2 * np.pi, 80)
    for y in np.arange(rng.uniform(0, 0.3) * canvas, canvas, rng.uniform(90, 150) * scale):
        half = rng.uniform(12, 24, 2) * scale * (1.0, 0.7)
        wobble = 1 + 0.15 * np.sin(3 * angle + rng.uniform(0, 6))
        loop = np.array([x + rng.normal(0, 6) * scale, y]) + half * wobble[:, None] * np.stack(
            [np.cos(angle), np.sin(angle)], axis=1
        )
        add_tube(layer, resample(loop, 0.5), max(1.0, rng.uniform(1.5, 2.5) * scale), absorption)
