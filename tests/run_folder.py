"""A run folder as ``fganet ablate`` leaves it, without trainings: predictions are labels with errors of a known kind.

What is measured, summed up and written is the comparison's own code; curves and costs are made up.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from trained_model import FGANET, REGION, write_model
from wire_dataset import wire_frame

from nnunet_fganet.comparison import page
from nnunet_fganet.comparison.costs import Cost, Latency
from nnunet_fganet.comparison.curves import Curves, flatness
from nnunet_fganet.comparison.dataset import PlannedDataset
from nnunet_fganet.comparison.entries import ablated_entries
from nnunet_fganet.comparison.paper import TABLE_2
from nnunet_fganet.comparison.runs import RunFolder, runs_of
from nnunet_fganet.comparison.scores import measure_run, score_entries

DATASET = "Dataset501_TCGSeg"
HOSTILE_CASE = "<script>alert(1)<x>_001"
HOSTILE_SEQUENCE = "</script><script>alert('sequence')</script>"
CHOSEN = ("baseline", "bga", "fganet")
Frames = Mapping[str, tuple[np.ndarray, np.ndarray]]


def tiny_frames() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Frames with labels: three sequences of three frames; one name is hostile."""
    names = [f"seq{sequence}_{number:03d}" for sequence in range(3) for number in range(3)]
    return {name: wire_frame(seed) for seed, name in enumerate([HOSTILE_CASE, *names[1:]])}


def tiny_sequences() -> dict[str, str]:
    """Sequences of these frames; one name is hostile."""
    return {case: HOSTILE_SEQUENCE if number < 3 else case[:4] for number, case in enumerate(tiny_frames())}


def predicted(label: np.ndarray, entry: str, number: int) -> np.ndarray:
    """A label with gaps (baseline: two, bga: one), a missed end and, in every third frame, false wire."""
    found = label.copy()
    columns = np.flatnonzero(label.any(axis=0))
    start, length = columns[0], len(columns)
    gaps = {"baseline": (0.3, 0.6), "bga": (0.5,)}.get(entry, ())
    for gap in gaps:
        found[:, start + int(gap * length) : start + int(gap * length) + 4 + number % 3] = 0
    if entry != "fganet" or number % 4 == 1:
        found[:, start : start + int(0.12 * length)] = 0
    if number % 3 == 0 and entry != "fganet":
        rows = np.flatnonzero(label.any(axis=1))
        away = 5 if rows.mean() > label.shape[0] / 2 else label.shape[0] - 8
        found[away : away + 3, start + 10 : start + 30] = 1
    return found


def write_run(root: Path, frames: Frames, sequences: Mapping[str, str], models: bool = False) -> Path:
    """Data set and run folder below ``root``; returns the run folder."""
    raw = root / "raw" / DATASET
    _write_dataset(raw, frames, sequences)
    folder = RunFolder(root / "run", DATASET, "nnUNetFGANetPlans_run")
    cases = list(frames)
    dataset = PlannedDataset(DATASET, raw, root / "plans.json", {}, REGION | {"file_ending": ".png"}, [cases])
    entries = [entry for entry in ablated_entries() if entry.name in CHOSEN]
    runs = runs_of(entries, (0,), (0,))
    for run in runs:
        if models:
            arguments = {**FGANET["arch_kwargs"], **run.entry.arguments}
            write_model(folder.model(run), FGANET | {"arch_kwargs": arguments})
            plans = json.loads((folder.model(run) / "plans.json").read_text())
            plans["configurations"][run.configuration] = {"inherits_from": "2d", "fganet": {"seed": 0}}
            (folder.model(run) / "plans.json").write_text(json.dumps(plans))
        _write_predictions(folder.validation(run), frames, run.entry.name)
    measured = {run: measure_run(folder, run, dataset, 1) for run in runs}
    document = page.as_document(
        _findings(measured, dict(sequences)), folder, raw / "labelsTr", raw / "imagesTr", ".png"
    )
    page.write_document(folder.root / "summary.json", document)
    return folder.root


def _findings(measured: dict, sequences: dict[str, str]) -> page.Findings:
    trainings = []
    for number, run in enumerate(measured):
        epochs = np.arange(30)
        loss = (0.9 - 0.1 * number) * np.exp(-epochs / 5) + 0.2
        curves = Curves(
            train_loss=loss.tolist(),
            validation_loss=(loss + 0.05).tolist(),
            pseudo_dice=(0.8 - 0.6 * loss).tolist(),
            learning_rate=(0.001 * (1 - epochs / 30)).tolist(),
            seconds=[12.0] * 30,
        )
        trainings.append((run, curves, flatness(curves.train_loss)))
    latency = Latency("plain", "float32", 80.0, 78.0, 85.0)
    networks = {run.entry.network for run in measured}
    return page.Findings(
        kind="ablate",
        reference="fganet",
        record={
            **{"kind": "ablate", "dataset": DATASET, "base_plans": "nnUNetFGANetPlans"},
            **{"plans": "nnUNetFGANetPlans_run", "epochs": 30, "iterations": 50, "validation_iterations": 10},
            **{"batch": 4, "patch": [96, 96], "device": "cpu"},
        },
        selection={"folds": [0], "seeds": [0], "by": "sequence"},
        scores=score_entries(measured, sequences, "fganet"),
        costs={network: Cost(1_200_000, 3_400_000_000, 3_600_000_000, (latency,)) for network in networks},
        trainings=trainings,
        groups=sequences,
        paper=TABLE_2,
        machine="a machine of the tests",
        missing=[],
    )


def _write_dataset(raw: Path, frames: Frames, sequences: Mapping[str, str]) -> None:
    for sub in ("imagesTr", "labelsTr"):
        (raw / sub).mkdir(parents=True)
    for case, (frame, label) in frames.items():
        cv2.imwrite(str(raw / "imagesTr" / f"{case}_0000.png"), frame)
        cv2.imwrite(str(raw / "labelsTr" / f"{case}.png"), label)
    (raw / "dataset.json").write_text(json.dumps(REGION))
    with (raw / "frames.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", "sequence", "patient", "spacing_mm"])
        table.writerows([case, sequence, "", 0.3] for case, sequence in sequences.items())


def _write_predictions(validation: Path, frames: Frames, entry: str) -> None:
    validation.mkdir(parents=True)
    for number, (case, (_, label)) in enumerate(frames.items()):
        found = predicted(label, entry, number)
        cv2.imwrite(str(validation / f"{case}.png"), found)
        noise = np.random.default_rng(number).uniform(-0.2, 0.2, found.shape)
        probability = np.where(found, 0.8, 0.2) + noise
        np.savez_compressed(validation / f"{case}.npz", probabilities=probability[None, None].astype(np.float32))
