"""A converted data set and predictions as nnU-Net writes them, for the tests of ``fganet evaluate``."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np

from nnunet_fganet.cli.main import main

SIZE = (40, 48)
CASES = [f"seq{sequence:02d}_{frame:03d}" for sequence in range(5) for frame in range(2)]
REGION = {"labels": {"background": 0, "guidewire": [1, 1]}, "regions_class_order": [1]}
PLAIN = {"labels": {"background": 0, "guidewire": 1}}


def wire(number: int) -> np.ndarray:
    """Label of frame ``number``; frame 9 shows no wire."""
    label = np.zeros(SIZE, np.uint8)
    if number != 9:
        label[8 + 2 * number : 10 + 2 * number, : 30 + number] = 1
    return label


def probability(number: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng([number, seed]).normal(0, 0.13, SIZE)
    return np.clip(0.15 + 0.7 * wire(number) + noise, 0, 1).astype(np.float32)


def write_masks(folder: Path, masks: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for case, mask in masks.items():
        cv2.imwrite(str(folder / f"{case}.png"), mask)


def write_predictions(folder: Path, seed: int, dataset: dict | None = REGION, npz: bool = True) -> None:
    """What ``nnUNetv2_predict --save_probabilities`` writes."""
    numbered = list(enumerate(CASES))
    write_masks(folder, {case: (probability(i, seed) > 0.5).astype(np.uint8) for i, case in numbered})
    if dataset is not None:
        (folder / "dataset.json").write_text(json.dumps(dataset))
        (folder / "plans.json").write_text("{}")
    for i, case in numbered if npz else []:
        channel = probability(i, seed)[None, None]
        channels = channel if dataset is not PLAIN else np.concatenate((1 - channel, channel))
        np.savez_compressed(folder / f"{case}.npz", probabilities=channels)


class Folders:
    """A converted data set and predictions of its test frames, in the region style."""

    def __init__(self, root: Path) -> None:
        self.root, self.raw = root, root / "Dataset501_TCGSeg"
        self.labels, self.predictions, self.json = self.raw / "labelsTs", root / "predictions", root / "summary.json"
        write_masks(self.labels, {case: wire(i) for i, case in enumerate(CASES)})
        (self.raw / "dataset.json").write_text(json.dumps(REGION))
        self.write_record({case: f"patient{i // 4}" for i, case in enumerate(CASES)})
        write_predictions(self.predictions, seed=0)

    def write_record(self, patients: dict[str, str], spacing: float | str = 0.5) -> None:
        with (self.raw / "frames.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["case", "split", "sequence", "patient", "source", "sha256", "spacing_mm", "time_s"])
            for case, patient in patients.items():
                table.writerow([case, "test", case[:5], patient, "", "", spacing, ""])

    def evaluate(self, *options: object, code: int = 0) -> dict:
        arguments = ["evaluate", self.predictions, self.labels, "--json", self.json, "--force", *options]
        assert main([str(argument) for argument in arguments]) == code
        return json.loads(self.json.read_text()) if code == 0 else {}
