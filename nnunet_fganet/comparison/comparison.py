"""A whole comparison: check, plan, train what is not trained, measure, write the tables."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnunet_fganet.commands.scripts import find_script
from nnunet_fganet.comparison import page, table
from nnunet_fganet.comparison.costs import measured_costs
from nnunet_fganet.comparison.curves import flatness, kept_curves
from nnunet_fganet.comparison.dataset import PlannedDataset, data_digest, find_planned_dataset
from nnunet_fganet.comparison.entries import (
    COMPARATOR_TRAINER,
    REFERENCE,
    Entry,
    budget_of,
    configurations_of,
    parameters_of,
    with_budget,
)
from nnunet_fganet.comparison.paper import PaperRow
from nnunet_fganet.comparison.record import (
    check_disk,
    check_own_plans,
    check_record,
    keep_plans,
    locked,
    plans_name_of,
)
from nnunet_fganet.comparison.runs import Run, RunFolder, State, runs_of
from nnunet_fganet.comparison.scores import Measured, measure_run, score_entries
from nnunet_fganet.comparison.training import TRAIN, Failure, Trainings, train_all
from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.bootstrap import FEWEST_GROUPS
from nnunet_fganet.files import written_beside
from nnunet_fganet.frames.reading import read_frame
from nnunet_fganet.planning.planner import CONFIGURATION
from nnunet_fganet.precision import MIXED, describe_cpu, training_precision
from nnunet_fganet.training.settings import TrainingSettings

# Of a training: weights and momentum in float32, in the best, the last and one half-written checkpoint.
_BYTES_A_PARAMETER = 2 * 4 * 3
_BYTES_A_PROBABILITY = 4


@dataclass(frozen=True)
class ComparisonOptions:
    """What a user may choose; ``docs/comparison.md`` explains each.

    Attributes
    ----------
    dataset
        Its number.
    out
        The run folder.
    folds, seeds
        Every entry is trained on each fold with each seed.
    epochs, iterations
        Budget of each training; None: that of the plans.
    plans
        Plans of ``fganet plan`` that all trainings follow.
    by
        What intervals resample: ``sequence`` or ``patient``.
    device
        ``cpu`` or ``cuda``.
    workers
        Processes that load, augment and write frames, and threads that measure them.
    force
        Remove trainings that were made under other terms.
    """

    dataset: int
    out: Path
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: int | None
    iterations: int | None
    plans: str
    by: str
    device: str
    workers: int
    force: bool


def run_comparison(
    kind: str,
    entries: Sequence[Entry],
    options: ComparisonOptions,
    paper: Sequence[PaperRow],
    check_plans: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Do what is not done yet of a comparison, print its tables and write them.

    Parameters
    ----------
    kind
        ``compare`` or ``ablate``.
    entries
        Rows of the table.
    options
        What the user chose.
    paper
        The paper's rows to print beside.
    check_plans
        Called with the data set's plans; raises InputError where they do not serve.

    Raises
    ------
    InputError
        Something given cannot be used, or a training failed; the sentence names it.
    """
    find_script(TRAIN)  # before anything is written
    dataset = find_planned_dataset(options.dataset, options.plans)
    if check_plans is not None:
        check_plans(dataset.plans)
    frames = dataset.frames(options.folds)
    groups = dataset.groups(frames, options.by)
    _check_groups(groups, options)
    plans = with_budget(dataset.plans, options.epochs, options.iterations)
    _check_device(entries, plans, options.device)
    configurations = configurations_of(entries, plans, dataset.description, options.seeds)
    folder = RunFolder(options.out.resolve(), dataset.name, plans_name_of(options.plans, options.out))
    terms = _terms(kind, dataset, plans, folder, options)
    with locked(folder.root) as lock:
        target = dataset.plans_file.with_name(f"{folder.plans}.json")
        check_own_plans(target, folder.root, options.force)
        check_record(folder.root, terms, target, options.force)
        keep_plans(dataset.plans_file, target, configurations, folder.root, options.force)
        trainings = Trainings(
            folder,
            runs_of(entries, options.folds, options.seeds),
            {fold: dataset.validation[fold] for fold in options.folds},
            dataset.description["file_ending"],
            terms["epochs"],
            options.device,
            options.workers,
        )
        _check_disk(trainings, dataset, configurations)
        failures = train_all(trainings, (lock,))
        measured, not_measured = _measure(trainings, dataset, options.workers, {each.run.entry for each in failures})
        failures += not_measured
        if measured:
            _report(trainings, dataset, options, terms, paper, groups, measured, failures)
    if failures:
        raise InputError(
            f"{len(failures)} of {len(trainings.runs)} trainings failed ({'; '.join(map(str, failures))}): mend that "
            "and run the same command again, which goes on with them."
        )


def _check_groups(groups: dict[str, str], options: ComparisonOptions) -> None:
    if len(set(groups.values())) < FEWEST_GROUPS:
        raise InputError(
            f"the validation frames of --folds {' '.join(map(str, options.folds))} are all of one {options.by}: "
            f"intervals need at least {FEWEST_GROUPS}, so name more folds."
        )


def _check_device(entries: Sequence[Entry], plans: dict[str, Any], device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU here; compare with --device cpu.")
    precision = training_precision(_settings(plans).precision, device)
    with_comparators = any(entry.trainer == COMPARATOR_TRAINER for entry in entries)
    if device == "cuda" and precision != MIXED and with_comparators:
        raise InputError(
            f"FGA-Net would compute in {precision}, and nnU-Net trains the comparators on GPUs in its own mixed "
            "precision: plan with --precision auto, or set FGANET_PRECISION=auto."
        )


def _settings(plans: dict[str, Any]) -> TrainingSettings:
    return TrainingSettings.from_configuration(plans["configurations"][CONFIGURATION])


def _terms(
    kind: str, dataset: PlannedDataset, plans: dict[str, Any], folder: RunFolder, options: ComparisonOptions
) -> dict[str, Any]:
    """What all trainings of a run folder share: recorded there, and checked when it is used again."""
    planned = plans["configurations"][CONFIGURATION]
    return {
        "kind": kind,
        "dataset": dataset.name,
        "data": data_digest(dataset),
        "base_plans": options.plans,
        "plans": folder.plans,
        **budget_of(plans),
        "batch": planned["batch_size"],
        "patch": list(planned["patch_size"]),
        "device": options.device,
        "precision": training_precision(_settings(plans).precision, options.device),
    }


def _check_disk(trainings: Trainings, dataset: PlannedDataset, configurations: dict[str, Any]) -> None:
    """Check the room for what is left: at most so much, so that no training ends on a full disk."""
    bytes_needed = 0.0
    for run in trainings.runs:
        state = trainings.state(run)
        if state in (State.NEW, State.STARTED):
            parameters = parameters_of(configurations[run.configuration], dataset.plans, dataset.description)
            bytes_needed += _BYTES_A_PARAMETER * parameters
        if state is not State.DONE:
            frames = trainings.frames[run.fold]
            pixels = read_frame(dataset.labels / f"{frames[0]}{trainings.ending}").size
            bytes_needed += len(frames) * pixels * _BYTES_A_PROBABILITY * len(dataset.description["labels"])
    check_disk(trainings.folder.root, bytes_needed)


def _measure(
    trainings: Trainings, dataset: PlannedDataset, workers: int, failed: Set[Entry]
) -> tuple[dict[Run, Measured], list[Failure]]:
    """Measure all runs of the entries that have not failed; an entry of which one cannot be measured is left out."""
    measured, failures = {}, []
    for number, run in enumerate(run for run in trainings.runs if run.entry not in failed):
        if number == 0:
            print("\nMeasuring the predictions", flush=True)
        fold, validation = trainings.folder.fold(run), trainings.folder.validation(run)
        try:
            kept_curves(trainings.folder.checkpoint(run), trainings.folder.curves(run))
        except InputError as error:
            failures.append(Failure(run, f"{str(error).rstrip('.')} (remove {fold} to train anew)"))
            continue
        try:
            measured[run] = measure_run(trainings.folder, run, dataset, workers)
        except InputError as error:
            if str(validation) not in str(error):  # a label: no network can be measured by it
                raise
            sentence = str(error).rstrip(".")
            way_out = f"remove {validation} to have them predicted anew, or {fold} to train anew"
            failures.append(Failure(run, f"its predictions cannot be measured: {sentence} ({way_out})"))
    failed = failed | {failure.run.entry for failure in failures}
    return {run: frames for run, frames in measured.items() if run.entry not in failed}, failures


def _report(
    trainings: Trainings,
    dataset: PlannedDataset,
    options: ComparisonOptions,
    terms: dict[str, Any],
    paper: Sequence[PaperRow],
    groups: dict[str, str],
    measured: dict[Run, Measured],
    failures: Sequence[Failure],
) -> None:
    """Print the page of what was measured and write it; entries that lack a training are left out."""
    folder, runs = trainings.folder, list(measured)
    first_runs: dict[str, Run] = {}
    for run in runs:
        first_runs.setdefault(run.entry.network, run)
    machine = torch.cuda.get_device_name() if options.device == "cuda" else describe_cpu()
    reference = REFERENCE if any(run.entry.name == REFERENCE for run in runs) else None
    curves = {run: kept_curves(folder.checkpoint(run), folder.curves(run)) for run in runs}
    findings = page.Findings(
        kind=terms["kind"],
        reference=reference,
        record=terms,
        selection={"folds": list(options.folds), "seeds": list(options.seeds), "by": options.by},
        scores=score_entries(measured, groups, reference),
        costs=measured_costs(folder, first_runs, options.device, machine),
        trainings=[(run, curves[run], flatness(curves[run].train_loss)) for run in runs],
        groups=groups,
        paper=paper,
        machine=machine,
        missing=[str(failure) for failure in failures],
    )
    text = page.as_page(findings)
    images = dataset.raw / "imagesTr"
    document = page.as_document(findings, folder, dataset.labels, images, trainings.ending)
    with written_beside(folder.root / "table.md", overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")
    with written_beside(folder.root / "table.csv", overwrite=True) as partial:
        table.write_csv(partial, findings.scores)
    with written_beside(folder.root / "summary.json", overwrite=True) as partial:
        page.write_document(partial, document)
    print(f"\n{text}\nTable:   {folder.root / 'table.md'} (and table.csv, summary.json)", flush=True)
