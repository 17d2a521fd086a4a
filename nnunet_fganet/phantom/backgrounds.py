"""Recorded frames to draw wires over: found, cut into runs, brought to size."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_fganet.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
SAME_VIEW = 0.8  # correlation of two thumbnails above which they show the same view
THUMBNAIL = 32  # px


@dataclass(frozen=True)
class Run:
    """Consecutive frames of one cine run: their files in order."""

    files: tuple[Path, ...]

    def read(self, first: int, frames: int, size: int) -> NDArray[np.uint8]:
        """Read ``frames`` frames from ``first`` on, forward and backward where the run is shorter.

        Each is cropped to its central square and resized to ``size`` px.

        Returns
        -------
        Grey values, shape (frames, size, size).
        """
        last = len(self.files) - 1
        order = [last - abs((first + number) % max(1, 2 * last) - last) for number in range(frames)]
        read = {index: _to_square(read_grey(self.files[index]), size) for index in sorted(set(order))}
        return np.stack([read[index] for index in order], dtype=np.uint8)


def find_runs(folder: Path) -> list[Run]:
    """Find the cine runs among the images of a folder.

    Frames belong to one run when their names are equal up to the last number; a run ends where the next
    frame shows another view (thumbnails correlate less than 0.8), as numbered stills do.

    Raises
    ------
    InputError
        The folder is missing, has no images, or one of them is unreadable.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of frames to draw wires over to --backgrounds.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not files:
        raise InputError(f"{folder} holds no images (PNG, JPEG, TIFF, BMP): give --backgrounds a folder of frames.")
    numbered: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in files:
        match = re.fullmatch(r"(.*?)(\d+)\D*", path.stem)
        stem, number = (match[1], int(match[2])) if match else (path.stem, 0)
        numbered[stem].append((number, path))
    runs: list[Run] = []
    with tqdm(total=len(files), desc="backgrounds", unit="frame") as progress:
        for stem in sorted(numbered):
            runs += _cut_where_view_changes([path for _, path in sorted(numbered[stem])], progress)
    return runs


def draw_background(
    rng: np.random.Generator, runs: list[Run], frames: int, size: int, is_test: bool
) -> NDArray[np.uint8]:
    """Choose consecutive frames for one sequence, from runs that only training or only test sequences use.

    Of the runs from the longest to the shortest, every third, the second first, is for test sequences; a single
    run serves both. Longer runs are chosen more often.

    Returns
    -------
    Grey values, shape (frames, size, size).
    """
    ranked = sorted(runs, key=lambda run: -len(run.files))
    usable = [run for rank, run in enumerate(ranked) if (rank % 3 == 1) == is_test] or ranked
    lengths = np.array([len(run.files) for run in usable])
    run = usable[int(rng.choice(len(usable), p=lengths / lengths.sum()))]
    first = int(rng.integers(0, max(1, len(run.files) - frames + 1)))
    return run.read(first, frames, size)


def _cut_where_view_changes(files: list[Path], progress: tqdm) -> list[Run]:
    runs: list[list[Path]] = []
    before: NDArray[np.uint8] | None = None
    for path in files:
        thumbnail = _to_square(read_grey(path), THUMBNAIL)
        if before is None or _correlation(before, thumbnail) < SAME_VIEW:
            runs.append([])
        runs[-1].append(path)
        before = thumbnail
        progress.update()
    return [Run(tuple(run)) for run in runs]


def _correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read an image as grey values of 8 bits; deeper ones are scaled by the bits that they use.

    Raises
    ------
    InputError
        The file cannot be read as an image.
    """
    grey = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if grey is None or min(grey.shape) < 16:
        raise InputError(f"{path} cannot be read as an image of at least 16 x 16 pixels: remove or replace it.")
    if grey.dtype == np.uint8:
        return grey.astype(np.uint8)
    if not np.issubdtype(grey.dtype, np.integer):
        raise InputError(f"{path} holds {grey.dtype} values: save it with 8 or 16 bits.")
    bits = max(8, int(grey.max()).bit_length())
    return np.right_shift(grey, bits - 8).astype(np.uint8)


def _to_square(grey: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    rows, columns = grey.shape
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    square = grey[top : top + side, left : left + side]
    shrink_or_grow = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=shrink_or_grow).astype(np.uint8)
