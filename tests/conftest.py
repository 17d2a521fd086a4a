"""What many tests share: a tiny data set, and nnU-Net's folders in a temporary place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

DATASET_ID = 901
DATASET_NAME = f"Dataset{DATASET_ID}_Wires"
FRAME_SIZE = 96


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: what is wrong shows early."""
    items.sort(key=lambda item: "slow" in item.keywords)


def wire_frame(seed: int, size: int = FRAME_SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A noisy frame with a dark wire, and its label."""
    rng = np.random.default_rng(seed)
    label = np.zeros((size, size), np.uint8)
    rows = (size / 2 + size / 5 * np.sin(np.linspace(0, 3, size) + rng.uniform(0, 6))).astype(int)
    points = np.stack((np.arange(size), rows), axis=1)
    cv2.polylines(label, [points.astype(np.int32)], False, 1, 2)
    frame = 120 + 10 * rng.standard_normal((size, size)) - 60 * label
    return frame.clip(1, 255).astype(np.uint8), label


def write_dataset(raw: Path, labels: dict, regions: bool, cases: int = 10) -> Path:
    """A data set in nnU-Net's layout with five folds."""
    folder = raw / DATASET_NAME
    for sub in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / sub).mkdir(parents=True)
    names = [f"case{i:02d}" for i in range(cases)]
    for i, name in enumerate(names):
        frame, label = wire_frame(i)
        cv2.imwrite(str(folder / "imagesTr" / f"{name}_0000.png"), frame)
        cv2.imwrite(str(folder / "labelsTr" / f"{name}.png"), label)
    for i in range(2):
        cv2.imwrite(str(folder / "imagesTs" / f"new{i}_0000.png"), wire_frame(100 + i)[0])
    description = {
        "channel_names": {"0": "xray"},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    if regions:
        description["regions_class_order"] = [1]
    (folder / "dataset.json").write_text(json.dumps(description))
    folds = [
        {"train": [n for i, n in enumerate(names) if i % 5 != k], "val": [n for i, n in enumerate(names) if i % 5 == k]}
        for k in range(5)
    ]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    return folder


class NNUNetFolders:
    """nnU-Net's three folders, and a way to run commands with them as a user would."""

    def __init__(self, root: Path) -> None:
        self.raw, self.preprocessed, self.results = (root / name for name in ("raw", "preprocessed", "results"))
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir()
        self.environment = {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": "1",
        }

    def popen(self, command: str, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start a command of the environment's bin folder in a fresh process."""
        return subprocess.Popen(
            [Path(sys.executable).parent / command, *map(str, arguments)],
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, *arguments: str, **environment: str) -> str:
        """Run a command to its end, check that it succeeded and return what it printed."""
        process = self.popen(command, *arguments, **environment)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output


@pytest.fixture
def nnunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NNUNetFolders:
    """Empty nnU-Net folders, for this process too."""
    folders = NNUNetFolders(tmp_path)
    for name, value in folders.environment.items():
        monkeypatch.setenv(name, value)
    return folders


@pytest.fixture(scope="module")
def shared_nnunet(tmp_path_factory: pytest.TempPathFactory) -> NNUNetFolders:
    """nnU-Net folders that the tests of a module share; commands only, this process is not touched."""
    return NNUNetFolders(tmp_path_factory.mktemp("nnunet"))
