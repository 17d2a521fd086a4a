"""A data set as ``fganet convert`` and ``fganet plan`` leave it, with empty files for preprocessed frames."""

import json
from pathlib import Path

from comparator_plans import REGION, plans
from wire_dataset import DATASET_NAME, write_dataset


def write_record(raw: Path, sequences: dict[str, str]) -> None:
    """Record of the converter: which sequence each frame is of."""
    lines = ["case,sequence", *(f"{case},{sequence}" for case, sequence in sequences.items())]
    (raw / DATASET_NAME / "frames.csv").write_text("\n".join(lines) + "\n")


def write_planned_dataset(raw: Path, preprocessed: Path) -> Path:
    """Ten frames, each a sequence of its own, in five folds; returns the folder of plans and preprocessed frames."""
    source = write_dataset(raw, REGION["labels"], regions=True)
    cases = [f"case{i:02d}" for i in range(10)]
    write_record(raw, {case: f"sequence{case[4:]}" for case in cases})
    folder = preprocessed / DATASET_NAME
    frames = folder / "nnUNetFGANetPlans_2d"
    frames.mkdir(parents=True)
    for case in cases:
        (frames / f"{case}.b2nd").touch()
    for name in ("dataset.json", "splits_final.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / "nnUNetFGANetPlans.json").write_text(json.dumps(plans()))
    return folder
