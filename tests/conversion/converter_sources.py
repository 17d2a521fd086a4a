"""Small sources in the released layout, and the real command line run on them."""

from pathlib import Path

import numpy as np
from PIL import Image

from nnunet_fganet.cli.main import main

SIZE = 40


def draw_frame(seed: int, size: int = SIZE) -> np.ndarray:
    """Bright noise with no border: (size, size), uint8."""
    return np.random.default_rng(seed).integers(120, 180, (size, size), dtype=np.uint8)


def draw_wire(seed: int, size: int = SIZE) -> np.ndarray:
    """A vertical wire, two pixels wide, 255 on 0."""
    mask = np.zeros((size, size), dtype=np.uint8)
    column = 5 + seed % (size - 10)
    mask[4:-4, column : column + 2] = 255
    return mask


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_released(root: Path, train: int = 5, test: int = 1, frames: int = 2) -> Path:
    """The released layout: ``train`` and ``test`` sequences of ``frames`` frames with three equal channels."""
    for number in range(train + test):
        split = "train" if number < train else "test"
        for frame in range(frames):
            name = f"seq{number:02d}_{frame:03d}.png"
            seed = number * frames + frame
            save(root / split / "images" / name, np.repeat(draw_frame(seed)[..., None], 3, axis=2))
            save(root / split / "masks" / name, draw_wire(seed))
    return root


def convert(source: Path, out: Path, *options: object) -> Path:
    """Run ``fganet convert``, which must succeed; returns the data set's folder."""
    assert main(["convert", str(source), "--out", str(out), *map(str, options)]) == 0
    (folder,) = out.iterdir()
    return folder
