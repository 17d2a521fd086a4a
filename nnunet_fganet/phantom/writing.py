"""The phantom data set on disk: frames and masks in the TCGSeg layout, and ``truth.json``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_fganet.errors import InputError
from nnunet_fganet.files import check_replaceable, written_beside
from nnunet_fganet.frames.writing import write_png
from nnunet_fganet.phantom.backgrounds import Run, draw_background, find_runs
from nnunet_fganet.phantom.motion import FRAMES_PER_SECOND
from nnunet_fganet.phantom.scenes import Scene, draw_recorded_scene, draw_synthetic_scene
from nnunet_fganet.phantom.sequence import PhantomFrame, film_sequence

SMALLEST_SIZE = 64
SPLITS = ("train", "test")
TRUTH_FILE = "truth.json"
TRUTH_KEYS = {"size", "seed", "frames_per_second", "frames"}


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
        Replace ``out`` where it is a phantom.

    Raises
    ------
    InputError
        A number is too small, ``out`` is in the way (a phantom, without ``overwrite``; other content; the
        backgrounds), or the backgrounds cannot be used.
    """
    for value, least, option in (
        (sequences, 1, "--sequences"),
        (frames, 1, "--frames"),
        (size, SMALLEST_SIZE, "--size"),
        (seed, 0, "--seed"),
    ):
        if value < least:
            raise InputError(f"{option} is {value}: give at least {least}.")
    what = f"phantom ({', '.join(SPLITS)} and {TRUTH_FILE}, nothing else)"
    check_replaceable(out, overwrite, is_phantom, what, [] if backgrounds is None else [backgrounds])
    with written_beside(out, overwrite=True) as partial:
        runs = None if backgrounds is None else find_runs(backgrounds)
        _write(partial, sequences, frames, size, seed, runs)


def is_phantom(folder: Path) -> bool:
    """Whether :func:`write_phantom` made the folder: it has a ``truth.json`` with our keys, and nothing was added."""
    try:
        truth = json.loads((folder / TRUTH_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(truth, dict) or not truth.keys() >= TRUTH_KEYS:
        return False
    return {path.name for path in folder.iterdir()} == {*SPLITS, TRUTH_FILE}


def is_test(sequence: int) -> bool:
    """Whether a sequence is for testing: every third, the second first (of 80 these are 27, as in the paper)."""
    return sequence % 3 == 1


def has_wire(sequence: int) -> bool:
    """Whether a sequence shows a guidewire: every tenth does not."""
    return sequence % 10 != 9


def _write(folder: Path, sequences: int, frames: int, size: int, seed: int, runs: list[Run] | None) -> None:
    for split in SPLITS:
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
                write_png(folder / split / "images" / file_name, np.repeat(frame.image[..., None], 3, axis=2))
                write_png(folder / split / "masks" / file_name, frame.mask.astype(np.uint8) * 255)
                truth[file_name] = _truth(frame, name, split)
                progress.update()
    document = {"size": size, "seed": seed, "frames_per_second": FRAMES_PER_SECOND, "frames": truth}
    (folder / TRUTH_FILE).write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


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
