"""One small phantom that the tests of its content share."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from nnunet_fganet.phantom import write_phantom


@dataclass(frozen=True)
class WrittenPhantom:
    """A phantom on disk."""

    folder: Path
    truth: dict[str, dict[str, Any]]

    @property
    def wired(self) -> dict[str, dict[str, Any]]:
        return {name: entry for name, entry in self.truth.items() if entry["centreline"]}

    def image(self, name: str) -> NDArray[np.uint8]:
        return cv2.imread(str(self.folder / self.truth[name]["split"] / "images" / name), cv2.IMREAD_UNCHANGED)

    def mask(self, name: str) -> NDArray[np.uint8]:
        return cv2.imread(str(self.folder / self.truth[name]["split"] / "masks" / name), cv2.IMREAD_UNCHANGED)


def read_phantom(folder: Path) -> WrittenPhantom:
    return WrittenPhantom(folder, json.loads((folder / "truth.json").read_text())["frames"])


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> WrittenPhantom:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, sequences=30, frames=3, size=256, seed=7)
    return read_phantom(folder)


@pytest.fixture(scope="session")
def recorded_frames() -> Path:
    shared = Path(os.environ.get("FGANET_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "xa_frames"
    if not folder.is_dir():
        pytest.skip(f"real frames are not at {folder}: set FGANET_SHARED to the shared folder")
    return folder
