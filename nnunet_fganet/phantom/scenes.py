"""What a wire is drawn into: a synthetic patient, or frames that a machine recorded.

Both kinds know their collimated window and motion, say how strong an object must absorb to stand one noise
deviation out of the frame, and make the finished frame from the wire's log attenuation.
"""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from nnunet_fganet.frames.collimation import find_window
from nnunet_fganet.phantom.anatomy import Anatomy, draw_anatomy
from nnunet_fganet.phantom.collimation import Collimation, draw_collimation
from nnunet_fganet.phantom.devices import Devices, draw_devices
from nnunet_fganet.phantom.geometry import Floats
from nnunet_fganet.phantom.imaging import Imaging, draw_imaging
from nnunet_fganet.phantom.motion import FRAMES_PER_SECOND, Motion, draw_motion

HARDENING = 0.9  # behind bone of log attenuation 1 a wire's attenuation falls to exp(-0.9)


class Scene(Protocol):
    """Everything in a sequence but its guidewire."""

    @property
    def motion(self) -> Motion:
        """How the body moves."""

    @property
    def window(self) -> NDArray[np.bool_]:
        """Collimated window, shape (size, size)."""

    @property
    def blur(self) -> float:
        """Standard deviation of the blur of a thin object, px."""

    def visible_absorption(self) -> Floats:
        """Log attenuation, after the blur, that equals one deviation of the first frame's noise, (size, size)."""

    def finish(self, frame: int, wire: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Frame with devices of log attenuation ``wire`` (size, size), as the machine shows it."""


@dataclass(frozen=True)
class SyntheticScene:
    """A synthetic patient before a simulated machine."""

    motion: Motion
    anatomy: Anatomy
    devices: Devices
    imaging: Imaging
    collimation: Collimation
    reference: float  # median attenuation of the window in the first frame

    @property
    def window(self) -> NDArray[np.bool_]:
        """Collimated window, shape (size, size)."""
        return self.collimation.window

    @property
    def blur(self) -> float:
        """Standard deviation of the blur of a thin object, px."""
        return self.imaging.wire_blur

    def visible_absorption(self) -> Floats:
        """Log attenuation, after the blur, that equals one deviation of the first frame's noise."""
        attenuation, _ = self.anatomy.at(self.motion, 0.0)
        return self.imaging.noise_to_contrast(attenuation, self.reference, 0)

    def finish(self, frame: int, wire: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Add the wire behind the patient's tissue, harden the beam by bone, and expose."""
        time = frame / FRAMES_PER_SECOND
        attenuation, bone = self.anatomy.at(self.motion, time)
        attenuation += self.devices.at(self.motion, time)
        attenuation += wire * np.exp(-HARDENING * bone)
        return self.imaging.expose(attenuation, self.reference, frame, self.collimation, rng)


def draw_synthetic_scene(rng: np.random.Generator, frames: int, size: int) -> SyntheticScene:
    """Draw patient, devices, machine and motion of one sequence."""
    motion = draw_motion(rng, size)
    margin = int(np.ceil(motion.reach))
    collimation = draw_collimation(rng, size)
    anatomy = draw_anatomy(rng, size, margin)
    devices = draw_devices(rng, size, margin)
    imaging = draw_imaging(rng, frames, size)
    attenuation, _ = anatomy.at(motion, 0.0)
    reference = float(np.median(attenuation[collimation.window]))
    return SyntheticScene(motion, anatomy, devices, imaging, collimation, reference)


@dataclass(frozen=True)
class RecordedScene:
    """Recorded frames, which hold anatomy, noise and collimation already.

    Attributes
    ----------
    frames
        Grey values, shape (frames, size, size).
    noise
        Standard deviation of the grey values' noise in the first frame, shape (size, size).
    """

    motion: Motion
    frames: NDArray[np.uint8]
    window: NDArray[np.bool_]
    noise: Floats
    blur: float

    def visible_absorption(self) -> Floats:
        """Log attenuation, after the blur, that equals one deviation of the first frame's noise."""
        return self.noise / np.maximum(self.frames[0].astype(np.float32), 8)

    def finish(self, frame: int, wire: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Attenuate the recorded grey values, and give back the noise that attenuated photons have.

        Where a share T of the signal is left, its recorded noise shrinks by T, but that of as few photons only
        by sqrt(T): the difference, of variance (T - T^2) sigma^2, is added with the blur of the machine.
        """
        left = np.exp(-cv2.GaussianBlur(wire, (0, 0), self.blur))
        missing = self.noise * np.sqrt(np.maximum(left - left**2, 0))
        white = rng.standard_normal(left.shape, dtype=np.float32)
        fresh = cv2.GaussianBlur(white, (0, 0), self.blur)
        recorded = self.frames[frame].astype(np.float32)
        shown = np.where(self.window, recorded * left + missing * fresh / fresh.std(), recorded)
        return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def draw_recorded_scene(rng: np.random.Generator, frames: NDArray[np.uint8]) -> RecordedScene:
    """Motion of a wire over recorded ``frames``, shape (frames, size, size), and their window and noise."""
    motion = draw_motion(rng, frames.shape[1])
    window = find_window(frames[0]).mask
    return RecordedScene(motion, frames, window, local_noise(frames[0]), blur=rng.uniform(0.6, 1.0))


def local_noise(frame: NDArray[np.uint8]) -> Floats:
    """Estimate the standard deviation of the noise around every pixel, grey values, at least 0.5.

    What a Gaussian of 2 px removes is noise and edges; the root mean square of it, clipped at three times
    its median magnitude so that edges count little, is smoothed over 24 px (at 512).
    """
    grey = frame.astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 2.0)
    limit = 3 * 1.4826 * float(np.median(np.abs(fine)))
    mean_square = cv2.GaussianBlur(np.clip(fine, -limit, limit) ** 2, (0, 0), 24 * frame.shape[0] / 512)
    return np.maximum(np.sqrt(np.maximum(mean_square, 0)), 0.5)
