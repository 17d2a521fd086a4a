"""The phantom data set on disk: frames and masks in the TCGSeg layout, and ``truth.json``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_fganet.errors import InputError
from nnunet_fganet.files import written_beside
from nnunet_fganet.phantom.backgrounds import Run, draw_background, find_runs
from nnunet_fganet.phantom.motion import FRAMES_PER_SECOND
from nnunet_fganet.phantom.scenes import Scene, draw_recorded_scene, draw_synthetic_scene
from nnunet_fganet.phantom.sequence import PhantomFrame, film_sequence

SMALLEST_SIZE = 64


def write_phantom(
    out: Path,
    sequences: int,
    frames: int,
    size: int,
    seed: int,
    backgrounds: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a phantom data set, the same one byte for byte for the same arguments.

    Sequence k is drawn from ``seed`` and k alone: asking for more sequences leaves the first ones as they were.

    Parameters
    ----------
    out
        Folder to make: ``train|test / images|masks / seqKKK_FFF.png`` and ``truth.json``.
    sequences, frames
        Number of sequences, and of frames in each (at 8 frames per second).
    size
        Rows and columns of a frame, px, at least 64.
    seed
        Not negative.
    backgrounds
        Folder of recorded frames to draw the wires over, instead of a synthetic patient.
    overwrite
        Replace ``out`` where it exists.

    Raises
    ------
    InputError
        A number is too small, ``out`` exists, or the backgrounds cannot be used.
    """
    for value, least, option in (
        (sequences, 1, "--sequences"),
        (frames, 1, "--frames"),
        (size, SMALLEST_SIZE, "--size"),
        (seed, 0, "--seed"),
    ):
        if value < least:
            raise InputError(f"{option} is {value}: give at least {least}.")
    if backgrounds is not None and overwrite and backgrounds.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{out} holds the backgrounds, which --force would remove: choose another place.")
    with written_beside(out, overwrite) as partial:
        runs = None if backgrounds is None else find_runs(backgrounds)
        _write(partial, sequences, frames, size, seed, runs)


def is_test(sequence: int) -> bool:
    """Whether a sequence is for testing: every third, the second first (of 80 these are 27, as in the paper)."""
    return sequence % 3 == 1


def has_wire(sequence: int) -> bool:
    """Whether a sequence shows a guidewire: every tenth does not."""
    return sequence % 10 != 9


def _write(folder: Path, sequences: int, frames: int, size: int, seed: int, runs: list[Run] | None) -> None:
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
    truth: dict[str, dict[str, Any]] = {}
    progress = tqdm(total=sequences * frames, desc="phantom", unit="frame")
    with progress:
        for sequence in range(sequences):
            name = f"seq{sequence:0{max(3, len(str(sequences - 1)))}d}"
            split = "test" if is_test(sequence) else "train"
            for number, frame in enumerate(_film(sequence, frames, size, seed, runs)):
                file_name = f"{name}_{number:0{max(3, len(str(frames - 1)))}d}.png"
                _write_png(folder / split / "images" / file_name, np.repeat(frame.image[..., None], 3, axis=2))
                _write_png(folder / split / "masks" / file_name, frame.mask.astype(np.uint8) * 255)
                truth[file_name] = _truth(frame, name, split)
                progress.update()
    document = {"size": size, "seed": seed, "frames_per_second": FRAMES_PER_SECOND, "frames": truth}
    (folder / "truth.json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def _film(sequence: int, frames: int, size: int, seed: int, runs: list[Run] | None) -> Iterator[PhantomFrame]:
    rng = np.random.default_rng([seed, sequence])
    scene: Scene
    if runs is None:
        scene = draw_synthetic_scene(rng, frames, size)
    else:
        scene = draw_recorded_scene(rng, draw_background(rng, runs, frames, size, is_test(sequence)))
    return film_sequence(rng, scene, frames, has_wire(sequence))


def _truth(frame: PhantomFrame, sequence: str, split: str) -> dict[str, Any]:
    """Entry of ``truth.json`` for one frame; lengths in px, coordinates (x, y)."""
    centreline = np.round(frame.centreline, 2).tolist()
    ratio = frame.contrast_to_noise
    return {
        "split": split,
        "sequence": sequence,
        "time_s": frame.time,
        "centreline": centreline,
        "tip": centreline[-1] if centreline else None,
        "width_px": None if frame.width is None else round(frame.width, 3),
        "contrast_to_noise": None if ratio is None else round(ratio, 3),
        "area_px": int(frame.mask.sum()),
    }


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG; unlike ``cv2.imwrite``, a full disk raises :class:`OSError`."""
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
