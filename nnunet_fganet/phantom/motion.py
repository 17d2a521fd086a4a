"""Motion between frames: breathing, heartbeat and a moving table, at 8 frames per second."""

from dataclasses import dataclass

import numpy as np

from nnunet_fganet.phantom.geometry import REFERENCE_SIZE, Floats

FRAMES_PER_SECOND = 8  # of the TCGSeg sequences


@dataclass(frozen=True)
class Motion:
    """How the body moves during one sequence; every displacement is (x, y) in px.

    Attributes
    ----------
    breathing_amplitude
        Displacement from full expiration to full inspiration, shape (2,).
    heart_amplitude
        Half of the displacement of the heart over a beat, shape (2,).
    heart_shear
        Change of the heart's displacement over the frame, shape (2, 2), in units of the amplitude's length.
    pan_speed
        Speed of the table in px/s, shape (2,); zero in most sequences.
    """

    size: int
    breathing_amplitude: Floats
    breathing_period: float
    breathing_phase: float
    heart_amplitude: Floats
    heart_shear: Floats
    heart_period: float
    heart_phase: float
    pan_speed: Floats

    @property
    def reach(self) -> float:
        """No point moves further than this from its place at rest, px."""
        return 0.1 * self.size

    def breathing(self, time: float) -> Floats:
        """Displacement of the diaphragm; expiration lasts longer than inspiration, hence the power."""
        cycle = 0.5 - 0.5 * np.cos(2 * np.pi * (time / self.breathing_period + self.breathing_phase))
        return self.breathing_amplitude * cycle**1.5

    def heart(self, time: float) -> Floats:
        """Displacement of the heart's centre: quick contraction, slower filling (two harmonics)."""
        return self.heart_amplitude * self._beat(time)

    def pan(self, time: float) -> Floats:
        """Displacement of everything by the moving table; the table stops before the layers' edges show."""
        limit = 0.03 * self.size
        return limit * np.tanh(self.pan_speed * time / limit)

    def displace(self, points: Floats, time: float) -> Floats:
        """Points of a vessel near the heart, shape (n, 2), moved to where they are at ``time``."""
        relative = (points - self.size / 2) / self.size
        shear = (relative @ self.heart_shear) * np.linalg.norm(self.heart_amplitude) * self._beat(time)
        return points + self.breathing(time) + self.heart(time) + self.pan(time) + shear

    def _beat(self, time: float) -> float:
        phase = 2 * np.pi * (time / self.heart_period + self.heart_phase)
        return 0.75 * np.sin(phase) + 0.25 * np.sin(2 * phase + 0.8)


def draw_motion(rng: np.random.Generator, size: int) -> Motion:
    """Draw the motion of one sequence for frames of ``size`` x ``size``."""
    scale = size / REFERENCE_SIZE
    down = rng.uniform(4, 18) * scale
    heart_direction = rng.uniform(0, 2 * np.pi)
    pan_direction = rng.uniform(0, 2 * np.pi)
    pan_speed = rng.uniform(4, 12) * scale if rng.random() < 0.15 else 0.0
    return Motion(
        size=size,
        breathing_amplitude=np.array([rng.normal(0, 0.15) * down, down]),
        breathing_period=rng.uniform(3.0, 5.5),
        breathing_phase=rng.random(),
        heart_amplitude=rng.uniform(1.5, 6) * scale * np.array([np.cos(heart_direction), np.sin(heart_direction)]),
        heart_shear=rng.uniform(-0.8, 0.8, (2, 2)),
        heart_period=rng.uniform(0.65, 1.1),
        heart_phase=rng.random(),
        pan_speed=pan_speed * np.array([np.cos(pan_direction), np.sin(pan_direction)]),
    )
