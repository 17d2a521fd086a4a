"""Recorded frames to draw wires over: found, cut into runs, brought to size."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.names import split_at_last_number
from nnunet_fganet.frames.reading import IMAGE_ENDINGS, is_image, read_frame

SAME_VIEW = 0.8  # correlation of two thumbnails above which they show the same view
THUMBNAIL = 32  # px
SMALLEST_SIDE = 16  # px


@dataclass(frozen=True)
class Run:
    """Consecutive frames of one cine run.

    Attributes
    ----------
    files
        In order.
    bits
        That the brightest pixel of all the frames needs, 8 to 16: one scale for the run, so that it does not flicker.
    """

    files: tuple[Path, ...]
    bits: int = 8

    def read(self, first: int, frames: int, size: int) -> NDArray[np.uint8]:
        """Read ``frames`` frames from ``first`` on, forward and backward where the run is shorter.

        Each is cropped to its central square and resized to ``size`` px.

        Returns
        -------
        Grey values, shape (frames, size, size).
        """
        last = len(self.files) - 1
        order = [last - abs((first + number) % max(1, 2 * last) - last) for number in range(frames)]
        read = {index: self._read_square(index, size) for index in sorted(set(order))}
        return np.stack([read[index] for index in order], dtype=np.uint8)

    def _read_square(self, index: int, size: int) -> NDArray[np.integer]:
        return _to_square(np.right_shift(_read(self.files[index]), self.bits - 8).astype(np.uint8), size)


def find_runs(folder: Path) -> list[Run]:
    """Find the cine runs among the images of a folder.

    Frames belong to one run when their names are equal up to the last number; a run ends where the next
    frame shows another view (thumbnails correlate less than 0.8), as numbered stills do.

    Raises
    ------
    InputError
        The folder is missing, has no images, or one of them is unreadable, in colour, or too small.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of frames to draw wires over to --backgrounds.")
    files = sorted(filter(is_image, folder.iterdir()))
    if not files:
        raise InputError(
            f"{folder} holds no images ({', '.join(IMAGE_ENDINGS)}): give --backgrounds a folder of frames."
        )
    numbered: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in files:
        sequence, number = split_at_last_number(path.stem)
        numbered[sequence].append((number, path))
    runs: list[Run] = []
    with tqdm(total=len(files), desc="backgrounds", unit="frame") as progress:
        for sequence in sorted(numbered):
            runs += _cut_where_view_changes([path for _, path in sorted(numbered[sequence])], progress)
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
    runs: list[Run] = []
    before: NDArray[np.integer] | None = None
    for path in files:
        frame = _read(path)
        thumbnail = _to_square(frame, THUMBNAIL)
        if before is None or _correlation(before, thumbnail) < SAME_VIEW:
            runs.append(Run(()))
        bits = max(runs[-1].bits, int(frame.max()).bit_length())
        runs[-1] = Run((*runs[-1].files, path), bits)
        before = thumbnail
        progress.update()
    return runs


def _correlation(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _read(path: Path) -> NDArray[np.integer]:
    frame = read_frame(path)
    if min(frame.shape) < SMALLEST_SIDE:
        raise InputError(f"{path} has fewer than {SMALLEST_SIDE} rows or columns: replace it or take it out.")
    return frame


def _to_square(grey: NDArray[np.integer], size: int) -> NDArray[np.integer]:
    """Crop to the central square and resize it to ``size`` px; the type stays."""
    rows, columns = grey.shape
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    square = grey[top : top + side, left : left + side]
    shrink_or_grow = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (size, size), interpolation=shrink_or_grow), dtype=grey.dtype)
