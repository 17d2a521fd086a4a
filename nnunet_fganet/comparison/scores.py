"""How well each entry predicted the validation frames: figures over all folds and seeds, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nnunet_fganet.comparison.dataset import PlannedDataset
from nnunet_fganet.comparison.entries import Entry
from nnunet_fganet.comparison.runs import Run, RunFolder
from nnunet_fganet.evaluation.folders import measure_pair
from nnunet_fganet.evaluation.frame import FrameFigures
from nnunet_fganet.evaluation.labels import WIRE_OR_NOT, find_labels
from nnunet_fganet.evaluation.pairs import find_pairs
from nnunet_fganet.evaluation.record import find_record, records_of
from nnunet_fganet.evaluation.summary import Summary, paired_differences, summarise
from nnunet_fganet.frames.workers import map_with_progress

Measured = dict[str, list[FrameFigures]]


@dataclass(frozen=True)
class EntryScores:
    """Figures of one entry.

    Attributes
    ----------
    entry
        Whose they are.
    runs
        Frames by class of each of its trainings.
    summary
        Over all of them.
    seeds
        The same of each seed alone.
    difference
        The reference's figures minus these; None for the reference, and where there is none.
    """

    entry: Entry
    runs: dict[Run, Measured]
    summary: Summary
    seeds: dict[int, Summary]
    difference: Summary | None


def measure_run(folder: RunFolder, run: Run, dataset: PlannedDataset, workers: int) -> Measured:
    """Measure what a run predicted of its fold's validation frames; frames by class."""
    frames, validation = dataset.validation[run.fold], folder.validation(run)
    pairs = find_pairs(validation, dataset.labels, validation, only=frames)
    records = records_of(frames, find_record(dataset.labels, None))
    measure = partial(
        measure_pair,
        labels=find_labels(validation, dataset.labels) or WIRE_OR_NOT,
        spacings={case: record.spacing_mm for case, record in records.items()},
    )
    measured = map_with_progress(measure, pairs, workers, run.name)
    return {name: [frame[name] for frame in measured] for name in measured[0]}


def joined(measured: Sequence[Measured]) -> Measured:
    """Frames of several runs together."""
    return {name: [frame for run in measured for frame in run[name]] for name in measured[0]}


def score_entries(
    measured: Mapping[Run, Measured], groups: Mapping[str, str], reference: str | None
) -> list[EntryScores]:
    """Figures of every entry, and the reference's distance to each.

    Every frame is validated in one fold only, so folds are joined. With several seeds a frame has a prediction of
    each of them, and all count: a mean over frames is then also the mean over the seeds. Intervals resample sequences,
    and with a sequence all of its predictions.

    Parameters
    ----------
    measured
        Frames by class of each run.
    groups
        Sequence (or patient) by the name of the frame.
    reference
        Name of the entry that all others are compared with; None where it is not among them.
    """
    runs: dict[Entry, dict[Run, Measured]] = {}
    for run, frames in measured.items():
        runs.setdefault(run.entry, {})[run] = frames
    all_frames = {entry: joined(list(own.values())) for entry, own in runs.items()}
    of_reference = next((frames for entry, frames in all_frames.items() if entry.name == reference), None)
    scores = []
    for entry, own in runs.items():
        difference = None
        if of_reference is not None and entry.name != reference:
            difference = paired_differences(of_reference, all_frames[entry], groups)
        summary = summarise(all_frames[entry], groups)
        scores.append(EntryScores(entry, own, summary, _by_seed(own, groups, summary), difference))
    return scores


def _by_seed(runs: Mapping[Run, Measured], groups: Mapping[str, str], summary: Summary) -> dict[int, Summary]:
    seeds = sorted({run.seed for run in runs})
    if len(seeds) == 1:
        return {seeds[0]: summary}
    return {
        seed: summarise(joined([frames for run, frames in runs.items() if run.seed == seed]), groups) for seed in seeds
    }
