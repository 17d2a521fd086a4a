"""Scores of several prediction folders against one label folder, with intervals that resample patients.

    python benchmarks/score_folders.py LABELS FRAMES_CSV NAME=PREDICTIONS [NAME=PREDICTIONS ...]

LABELS and PREDICTIONS hold PNG masks of equal names; frames that the first prediction folder does
not hold are left out and counted. FRAMES_CSV is the converter's record (case, patient). Prints a
Markdown table: Dice pooled over pixels, mean Dice and mean clDice over frames, each with its 95 %
bootstrap interval, and the difference of each later folder to the first, paired.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from nnunet_fganet.evaluation.overlap import OverlapCounts, cl_dice, overlap_counts, pooled_dice

RESAMPLINGS = 2000
Score = tuple[OverlapCounts, float]
FIGURES: dict[str, Callable[[Sequence[Score]], float]] = {
    "Dice, pooled": lambda scores: pooled_dice(counts for counts, _ in scores),
    "Dice, mean": lambda scores: float(np.mean([counts.dice for counts, _ in scores])),
    "clDice, mean": lambda scores: float(np.mean([value for _, value in scores])),
}


def main(labels: str, frames_csv: str, *named_folders: str) -> None:
    """Print the table."""
    folders = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in named_folders)}
    cases = sorted(path.stem for path in next(iter(folders.values())).glob("*.png"))
    with Path(frames_csv).open(newline="") as file:
        patient = {row["case"]: row["patient"] or row["sequence"] for row in csv.DictReader(file)}
    print(f"{len(cases)} frames of {len({patient[case] for case in cases})} patients\n")
    scores = {name: [_score(Path(labels), folder, case) for case in cases] for name, folder in folders.items()}
    resampled = _resample([patient[case] for case in cases])
    print(f"| | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}")
    first = next(iter(scores.values()))
    for name, own in scores.items():
        cells = [
            _cell(figure(own), [figure([own[i] for i in rows]) for rows in resampled]) for figure in FIGURES.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    for name, own in list(scores.items())[1:]:
        cells = []
        for figure in FIGURES.values():
            differences = [figure([own[i] for i in rows]) - figure([first[i] for i in rows]) for rows in resampled]
            cells.append(_cell(figure(own) - figure(first), differences))
        print(f"| {name} minus {next(iter(scores))} | {' | '.join(cells)} |")


def _score(labels: Path, predictions: Path, case: str) -> Score:
    label, prediction = (
        cv2.imread(str(folder / f"{case}.png"), cv2.IMREAD_UNCHANGED) for folder in (labels, predictions)
    )
    return overlap_counts(label, prediction), cl_dice(label, prediction)


def _resample(groups: Sequence[str]) -> list[list[int]]:
    """Rows of each bootstrap sample: whole groups, drawn with replacement."""
    rows = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    names, rng = list(rows), np.random.default_rng(0)
    return [
        [row for k in rng.integers(0, len(names), len(names)) for row in rows[names[k]]] for _ in range(RESAMPLINGS)
    ]


def _cell(value: float, resampled: Sequence[float]) -> str:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
