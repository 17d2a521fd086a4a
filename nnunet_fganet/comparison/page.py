"""What a comparison found: the page with all tables, and the summary that other programs read."""

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nnunet_fganet.comparison import table
from nnunet_fganet.comparison.costs import PREPARED, Cost
from nnunet_fganet.comparison.paper import PaperRow
from nnunet_fganet.comparison.runs import RunFolder
from nnunet_fganet.comparison.scores import EntryScores
from nnunet_fganet.evaluation.frame import FrameFigures
from nnunet_fganet.evaluation.summary import Figure, Summary

PACKAGES = ("nnunet_fganet", "nnunetv2", "torch", "torchvision", "monai", "segmentation-models-pytorch", "timm")


@dataclass(frozen=True)
class Findings:
    """All that was found.

    Attributes
    ----------
    kind
        ``compare`` or ``ablate``.
    reference
        Name of the entry that all others are compared with; None where it is not among them.
    record
        Terms that all trainings share.
    selection
        Folds, seeds and what intervals resample.
    scores, costs, trainings
        Of each entry, network and run.
    groups
        Sequence (or patient) by the name of the frame.
    paper
        The paper's rows.
    machine
        On which latencies were measured.
    missing
        Sentences on trainings that failed, or whose predictions cannot be measured.
    """

    kind: str
    reference: str | None
    record: Mapping[str, Any]
    selection: Mapping[str, Any]
    scores: Sequence[EntryScores]
    costs: Mapping[str, Cost]
    trainings: Sequence[table.Training]
    groups: Mapping[str, str]
    paper: Sequence[PaperRow]
    machine: str
    missing: Sequence[str]


def notes_of(findings: Findings) -> list[str]:
    """What a reader has to know about the figures."""
    notes = []
    not_flat = [run.title for run, _, flatness in findings.trainings if not flatness.is_flat]
    if not_flat:
        notes.append(
            f"**The loss of {len(not_flat)} of {len(findings.trainings)} trainings had not become flat "
            f"({'; '.join(not_flat[:5])}{' ...' if len(not_flat) > 5 else ''}): with a larger budget the order of the "
            "networks may be another one. No figure of theirs, and no difference from one, is a result: their rows are "
            f"marked with {table.NOT_FLAT}.**"
        )
    notes += [f"Missing: {sentence}" for sentence in findings.missing]
    notes.append(_note_on_seeds(len(findings.selection["seeds"])))
    groups = len(set(findings.groups.values()))
    if groups < 10:
        notes.append(f"{groups} {findings.selection['by']}s only: intervals of so few are too narrow.")
    return notes


def _note_on_seeds(seeds: int) -> str:
    about_frames = "intervals are about other frames and do not say how much another training of a network would differ"
    if seeds == 1:
        return f"One seed: the {about_frames}."
    return f"{seeds} seeds: the {about_frames}; see '{table.DICE_OF_SEED}' in the trainings of table.md."


def as_page(findings: Findings) -> str:
    """All tables in Markdown."""
    scores = findings.scores
    title = "Comparison" if findings.kind == "compare" else "Ablation"
    parts = [f"# {title} on {findings.record['dataset']}", _terms(findings)]
    parts.append("\n".join(f"- {note}" for note in notes_of(findings)))
    not_flat = {run.entry for run, _, flatness in findings.trainings if not flatness.is_flat}
    columns = (table.PAPER_COLUMNS, table.SHAPE_COLUMNS)
    parts += ["## Figures", f"{table.LOWER_IS_BETTER}: lower is better."]
    parts += [table.figures_table(scores, chosen, not_flat) for chosen in columns]
    if any(each.difference is not None for each in scores):
        parts += ["## FGA-Net minus the other, paired"]
        parts += [f"Where the interval holds zero, no difference was found ({table.NONE_FOUND})."]
        parts += [table.differences_table(scores, chosen, not_flat) for chosen in columns]
    parts += [
        "## Cost of a frame",
        _latency_terms(findings),
        table.costs_table(scores, findings.costs),
        "## Trainings",
        table.trainings_table(findings.trainings, scores),
        "## The paper's own figures",
        "Measured by its authors on TCGSeg, which is not public, on an RTX 4090: for reference, not to be compared "
        "digit by digit.",
        table.paper_table(findings.paper),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _terms(findings: Findings) -> str:
    """What was trained on what, in a paragraph."""
    record, selection = findings.record, findings.selection
    by, patch = selection["by"], " x ".join(map(str, record["patch"]))
    return (
        f"{len(findings.groups)} validation frames of {len(set(findings.groups.values()))} {by}s; folds "
        f"{_listed(selection['folds'])}; seeds {_listed(selection['seeds'])}. Each training: {record['epochs']} epochs "
        f"of {record['iterations']} batches of {record['batch']} patches of {patch} px, on {record['device']}. "
        "Predicted by nnU-Net's final validation (sliding window, mirrored). In brackets 95 % intervals that resample "
        f"{by}s."
    )


def _latency_terms(findings: Findings) -> str:
    """How latencies were measured."""
    ways = {latency.how for cost in findings.costs.values() for latency in cost.latencies}
    prepared = "; prepared: FGA-Net as nnUNetv2_predict runs it" if PREPARED in ways else ""
    return (
        f"One frame of the patch's size, all networks one after the other in one process: {findings.machine}. Median "
        f"and quartiles, in the number format of the last column. Plain: PyTorch's eager mode{prepared}."
    )


def as_document(findings: Findings, folder: RunFolder, labels: Path, images: Path, ending: str) -> dict[str, Any]:
    """What ``summary.json`` holds; its keys are documented in docs/comparison.md."""
    return {
        "kind": findings.kind,
        "reference": findings.reference,
        "terms": dict(findings.record),
        "selection": dict(findings.selection),
        "labels": str(labels),
        "images": str(images),
        "frames": len(findings.groups),
        "groups": dict(findings.groups),
        "entries": [_entry(each, findings, folder, ending) for each in findings.scores],
        "costs": {name: asdict(cost) for name, cost in findings.costs.items()},
        "paper": [asdict(row) for row in findings.paper],
        "machine": findings.machine,
        "versions": _versions(),
        "notes": notes_of(findings),
    }


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write it as JSON, with ``null`` for what is not a number."""
    path.write_text(json.dumps(_without_nan(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _entry(scores: EntryScores, findings: Findings, folder: RunFolder, ending: str) -> dict[str, Any]:
    entry = scores.entry
    return {
        "name": entry.name,
        "title": entry.title,
        "network": entry.network,
        "trainer": entry.trainer,
        "loss": entry.loss,
        **_figures(scores.summary),
        "difference": None if scores.difference is None else _figures(scores.difference, difference=True),
        "seeds": {str(seed): _figures(summary) for seed, summary in scores.seeds.items()},
        "runs": [
            _run(training, scores.runs[training[0]], folder, ending)
            for training in findings.trainings
            if training[0].entry == entry
        ],
    }


def _run(
    training: table.Training, measured: Mapping[str, Sequence[FrameFigures]], folder: RunFolder, ending: str
) -> dict[str, Any]:
    run, curves, flatness = training
    validation = folder.validation(run).relative_to(folder.root)
    return {
        "name": run.name,
        "fold": run.fold,
        "seed": run.seed,
        "configuration": run.configuration,
        "model": str(folder.model(run).relative_to(folder.root)),
        "checkpoint": str(folder.checkpoint(run).relative_to(folder.root)),
        "log": str(folder.log(run).relative_to(folder.root)),
        "curves": asdict(curves),
        "flatness": asdict(flatness),
        "frames": [
            {
                "case": frame.case,
                "class": name,
                "prediction": str(validation / f"{frame.case}{ending}"),
                "probabilities": str(validation / f"{frame.case}.npz"),
                **frame.counts._asdict(),
                **frame.values(),
                "calibration": None if frame.histogram is None else frame.histogram.calibration.tolist(),
            }
            for name, frames in measured.items()
            for frame in frames
        ],
    }


def _figures(summary: Summary, difference: bool = False) -> dict[str, Any]:
    def of(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
        return {
            key: asdict(figure) | ({"found": table.difference_found(figure)} if difference else {})
            for key, figure in figures.items()
        }

    return {"metrics": of(summary.mean), "classes": {name: of(figures) for name, figures in summary.classes.items()}}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions | {"torch": torch.__version__}


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value
