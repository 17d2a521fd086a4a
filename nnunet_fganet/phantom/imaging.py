"""The imaging chain: from log attenuation to a displayed frame.

Photons that pass the body (Beer-Lambert) are blurred by the focal spot, joined by scattered ones, counted with
Poisson noise, blurred by the scintillator (which is why neighbouring pixels share noise), and displayed through a
power law whose level the automatic exposure control keeps near a set point.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nnunet_fganet.phantom.collimation import Collimation
from nnunet_fganet.phantom.geometry import Floats, smooth_noise


@dataclass(frozen=True)
class Imaging:
    """Settings of the machine during one sequence.

    Attributes
    ----------
    photons
        Primary photons a pixel behind the median of the window, for each frame, shape (frames,). Fluoroscopy
        has some tens (10-40 nGy a frame at the detector, pixels of 0.2-0.4 mm).
    level
        Displayed grey value of that median, for each frame, shape (frames,).
    gamma
        Exponent of the display's power law.
    scatter_to_primary
        Scattered photons for each primary one, at the median.
    scatter_width
        Width of the scatter's spread, px.
    focal_blur, detector_blur
        Standard deviations of the blur before and after the photons are counted, px.
    leak
        Share of the open beam's photons that passes the shutters.
    """

    photons: Floats
    level: Floats
    gamma: float
    scatter_to_primary: float
    scatter_width: float
    focal_blur: float
    detector_blur: float
    leak: float

    @property
    def wire_blur(self) -> float:
        """Standard deviation of the blur of a thin object, px."""
        return float(np.hypot(self.focal_blur, self.detector_blur))

    def primary(self, attenuation: Floats, reference: float, frame: int) -> Floats:
        """Primary photons a pixel before any blur, where ``reference`` is the median attenuation of the window."""
        return np.float32(self.photons[frame]) * np.exp(np.float32(reference) - attenuation, dtype=np.float32)

    def scattered(self, primary: Floats) -> Floats:
        """Scattered photons a pixel: the primary ones spread widely (computed at an eighth of the resolution)."""
        size = primary.shape[0]
        small = cv2.resize(primary, (max(8, size // 8),) * 2, interpolation=cv2.INTER_AREA)
        spread = cv2.GaussianBlur(small, (0, 0), self.scatter_width * small.shape[0] / size)
        return self.scatter_to_primary * cv2.resize(spread, (size, size), interpolation=cv2.INTER_LINEAR)

    def noise_to_contrast(self, attenuation: Floats, reference: float, frame: int) -> Floats:
        """Contrast of an object in the primary beam that equals one standard deviation of the noise, per pixel."""
        primary = self.primary(attenuation, reference, frame)
        photons = primary + self.scattered(primary)
        return np.sqrt(photons) * blurred_noise(self.detector_blur) / primary

    def expose(
        self, attenuation: Floats, reference: float, frame: int, collimation: Collimation, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Expose, read out and display one frame.

        Parameters
        ----------
        attenuation
            Log attenuation of everything in the beam, shape (size, size), float32.
        reference
            Median attenuation of the window at the sequence's beginning, which is displayed at ``level``.
        frame
            Number of the frame in its sequence.

        Returns
        -------
        Grey values, shape (size, size).
        """
        primary = self.primary(attenuation, reference, frame) * collimation.aperture
        photons = cv2.GaussianBlur(primary, (0, 0), self.focal_blur) + self.scattered(primary)
        # Outside, the frame shows the shutters: no scatter of the open field, or borders would be grey.
        photons = np.where(collimation.window, photons, photons * collimation.aperture)
        counted = rng.poisson(photons + self.leak * self.photons[frame]).astype(np.float32)
        read_out = cv2.GaussianBlur(counted, (0, 0), self.detector_blur)
        typical = self.photons[frame] * (1 + self.scatter_to_primary)
        displayed = self.level[frame] * np.power(read_out / np.float32(typical), np.float32(self.gamma))
        if collimation.is_black_outside:
            displayed = displayed * collimation.window
        return np.clip(np.rint(displayed), 0, 255).astype(np.uint8)


def draw_imaging(rng: np.random.Generator, frames: int, size: int) -> Imaging:
    """Draw the machine's settings for one sequence of ``frames`` frames of ``size`` x ``size``."""
    photons = rng.uniform(22, 70) * np.exp(0.05 * smooth_noise(rng, frames, 4.0))
    level = rng.uniform(85, 125) * np.exp(0.04 * smooth_noise(rng, frames, 6.0))
    if rng.random() < 0.4:  # the exposure control has not settled yet when the pedal is pressed
        level = level * (1 + rng.uniform(-0.3, 0.3) * np.exp(-np.arange(frames) / rng.uniform(1, 4)))
    if rng.random() < 0.25:  # the physician changes the dose
        photons = photons * np.where(np.arange(frames) >= rng.integers(0, frames), rng.uniform(0.6, 1.6), 1.0)
    return Imaging(
        photons=photons,
        level=level,
        gamma=rng.uniform(0.45, 0.7),
        scatter_to_primary=rng.uniform(0.25, 1.0),
        scatter_width=0.1 * size,
        focal_blur=rng.uniform(0.35, 0.7),
        detector_blur=rng.uniform(0.4, 0.65),
        leak=rng.uniform(0.005, 0.03),
    )


def blurred_noise(blur: float) -> float:
    """Share of white noise's standard deviation that is left after a Gaussian blur of ``blur`` px."""
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(4 * blur)) + 1, blur)
    return float(np.sum(kernel**2))
