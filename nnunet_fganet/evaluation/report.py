"""What an evaluation found, as a table to read, as CSV (a row for each frame) and as JSON (the summary)."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_fganet.evaluation.folders import Evaluation
from nnunet_fganet.evaluation.overlap import OverlapCounts
from nnunet_fganet.evaluation.summary import METRICS, Figure, Summary

_MEAN = "mean of classes"


def table_of(summary: Summary) -> str:
    """Table of all metrics: value and interval of each class, which end is better, and frames where not all count."""
    columns = dict(summary.classes)
    if len(columns) > 1:
        columns[_MEAN] = summary.mean
    rows = [["", "better", *columns]]
    for metric in METRICS:
        figures = [column[metric.key] for column in columns.values()]
        better = "higher" if metric.higher_is_better else "lower"
        rows.append([metric.name, better, *(_cell(figure, summary.frames) for figure in figures)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(figure: Figure, frames: int) -> str:
    if math.isnan(figure.value):
        return "-"
    interval = "" if math.isnan(figure.low) else f" ({figure.low:.3f} to {figure.high:.3f})"
    counted = "" if figure.frames == frames else f", {figure.frames} frames"
    return f"{figure.value:.3f}{interval}{counted}"


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write a row for each frame and class: its group, its figures (empty where there is none), its pixels."""
    frames = [(name, frame) for name, frames in evaluation.measured.items() for frame in frames]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["case", "class", "group", *frames[0][1].values(), *OverlapCounts._fields])
        for name, frame in frames:
            values = ["" if math.isnan(value) else f"{value:.6g}" for value in frame.values().values()]
            table.writerow([frame.case, name, evaluation.groups[frame.case], *values, *frame.counts])


def write_json(
    path: Path, summary: Summary, options: Mapping[str, Any], notes: Sequence[str], difference: Summary | None = None
) -> None:
    """Write the summary: what was evaluated, each metric's value by its key, and all figures with their intervals."""
    document = {
        "frames": summary.frames,
        "groups": summary.groups,
        **{key: _number(figure.value) for key, figure in summary.mean.items()},
        **_figures(summary),
        "notes": list(notes),
        "options": dict(options),
    }
    if difference is not None:
        document["difference"] = _figures(difference)
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _figures(summary: Summary) -> dict[str, Any]:
    return {
        "metrics": _by_key(summary.mean),
        "classes": {name: _by_key(figures) for name, figures in summary.classes.items()},
    }


def _by_key(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | None]]:
    return {
        key: {
            "value": _number(figure.value),
            "low": _number(figure.low),
            "high": _number(figure.high),
            "frames": figure.frames,
        }
        for key, figure in figures.items()
    }


def _number(value: float) -> float | None:
    """JSON has no word for what is not a number."""
    return None if math.isnan(value) else value
