"""A tiny data set in nnU-Net's layout: noisy frames with one dark wire each."""

import json
from pathlib import Path

import cv2
import numpy as np

DATASET_ID = 901
DATASET_NAME = f"Dataset{DATASET_ID}_Wires"
FRAME_SIZE = 96


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
