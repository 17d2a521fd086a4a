"""One phantom sequence: its frames, their masks and the truth about the wire."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_fganet.phantom.contrast import contrast_to_noise
from nnunet_fganet.phantom.devices import add_catheter, catheter_diameter
from nnunet_fganet.phantom.geometry import Floats, resample
from nnunet_fganet.phantom.guidewire import (
    Guidewire,
    absorption_map,
    centreline_in_window,
    draw_guidewire,
    draw_mask,
    in_window,
)
from nnunet_fganet.phantom.motion import FRAMES_PER_SECOND
from nnunet_fganet.phantom.scenes import Scene

LARGEST_CONTRAST = 0.9  # share of the primary beam that a wire takes away at most
CORRECTION = (0.6, 2.5)  # range of the factor by which a trial frame corrects a wire's attenuation


@dataclass(frozen=True)
class PhantomFrame:
    """A finished frame and the truth about it.

    Attributes
    ----------
    image
        Grey values, shape (size, size).
    mask
        The wire as drawn by a physician, shape (size, size).
    time
        Since the sequence's beginning, s.
    centreline
        Points (x, y) in px from entry to tip, about 2 px apart, shape (n, 2); (0, 2) without a wire.
    width
        Of the wire, px; none without a wire.
    contrast_to_noise
        Measured on ``image``: see :func:`.contrast.contrast_to_noise`.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    time: float
    centreline: Floats
    width: float | None
    contrast_to_noise: float | None


def film_sequence(rng: np.random.Generator, scene: Scene, frames: int, has_wire: bool) -> Iterator[PhantomFrame]:
    """Film ``frames`` frames of a scene, with a guidewire or without."""
    size = scene.window.shape[0]
    if not has_wire:
        nothing = np.zeros((size, size), np.float32)
        for frame in range(frames):
            image = scene.finish(frame, nothing, rng)
            no_wire = np.zeros((size, size), bool)
            yield PhantomFrame(image, no_wire, frame / FRAMES_PER_SECOND, np.zeros((0, 2)), None, None)
        return
    wire = draw_guidewire(rng, scene.window, scene.motion, frames)
    catheter = catheter_diameter(rng, size), rng.uniform(0.25, 0.5)
    unit = _unit_absorption(rng, scene, wire, catheter)
    for frame in range(frames):
        yield _film_wire(rng, scene, wire, unit, catheter, frame)


def _film_wire(
    rng: np.random.Generator,
    scene: Scene,
    wire: Guidewire,
    unit: float,
    catheter: tuple[float, float],
    frame: int,
) -> PhantomFrame:
    size = scene.window.shape[0]
    curve = wire.curve(frame, scene.motion)
    contrast = np.minimum(wire.contrast[: len(curve)][::-1] * unit, LARGEST_CONTRAST)
    layer = absorption_map(curve, wire.width, -np.log(1 - contrast), scene.blur, size)
    sheath = wire.catheter(frame, scene.motion)
    if sheath is not None:
        add_catheter(layer, sheath, *catheter)
    image = scene.finish(frame, layer, rng)
    centreline = centreline_in_window(curve, scene.window)
    return PhantomFrame(
        image=image,
        mask=draw_mask(centreline, wire.width, scene.window),
        time=frame / FRAMES_PER_SECOND,
        centreline=resample(centreline, 2.0),
        width=wire.width,
        contrast_to_noise=contrast_to_noise(image, centreline, wire.width, scene.window),
    )


def _unit_absorption(rng: np.random.Generator, scene: Scene, wire: Guidewire, catheter: tuple[float, float]) -> float:
    """Find the log attenuation that gives the wire the contrast-to-noise ratio that it aims at.

    First from the noise at the median place along the wire where it is in furthest. Bone edges, vessels and
    devices beside the wire hide it as noise does, and bone hardens the beam: so a trial frame is measured,
    and the attenuation corrected, within what wires of other alloys have.
    """
    frame = int(np.argmax(wire.inserted))
    curve = wire.curve(frame, scene.motion)
    nearest = np.rint(curve[in_window(curve, scene.window)]).astype(int)
    unit = float(np.median(scene.visible_absorption()[nearest[:, 1], nearest[:, 0]]))
    measured = _film_wire(rng, scene, wire, unit, catheter, frame).contrast_to_noise
    if measured is None:
        return unit
    wanted = float(np.mean(wire.contrast[: len(curve)]))
    return unit * float(np.clip(wanted / max(measured, 0.1), *CORRECTION))
