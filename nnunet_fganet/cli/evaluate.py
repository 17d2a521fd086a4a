"""``fganet evaluate``: how well predicted masks agree with labels."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_fganet.cli.arguments import positive_integer
from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.bootstrap import FEWEST_GROUPS
from nnunet_fganet.evaluation.folders import EvaluationOptions, FoundFrames, evaluate_folders, find_frames
from nnunet_fganet.evaluation.record import GROUPINGS
from nnunet_fganet.evaluation.report import table_of, write_csv, write_json
from nnunet_fganet.evaluation.summary import Summary, check_groups, paired_differences, summarise
from nnunet_fganet.files import check_new_files, check_not_read, written_beside
from nnunet_fganet.frames.workers import default_workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command; ``docs/evaluation.md`` explains them."""
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, help="folder of predicted masks")
    parser.add_argument("labels", metavar="LABELS", type=Path, help="folder of labels, with the same file names")
    parser.add_argument(
        "--probabilities",
        type=Path,
        metavar="DIR",
        help="nnU-Net's .npz files (default: those beside the predictions, if all are there)",
    )
    parser.add_argument(
        "--by", choices=GROUPINGS, default="sequence", help="what the intervals resample (default: sequence)"
    )
    parser.add_argument(
        "--frames",
        type=Path,
        metavar="CSV",
        help="columns case,sequence,patient,spacing_mm (default: frames.csv of the labels' data set)",
    )
    parser.add_argument("--fold", type=int, metavar="N", help="only the validation frames of this fold")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="other predictions of the same frames: print the differences too"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures of each frame")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary")
    parser.add_argument("--workers", type=positive_integer, default=default_workers(), metavar="N", help="threads")
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, print the table and write the files, then compare with the other predictions."""
    check_new_files({"--csv": arguments.csv, "--json": arguments.json}, arguments.force)
    options = EvaluationOptions(**{name: getattr(arguments, name) for name in EvaluationOptions.__dataclass_fields__})
    # What is missing is found before all is measured.
    found = find_frames(options)
    check_not_read((arguments.csv, arguments.json), found.files)
    of_other = None
    if arguments.against is not None:
        of_other = replace(options, predictions=arguments.against, probabilities=None)
        check_groups(found.groups.values())
        _check_other(find_frames(of_other), found, arguments)
    evaluation = evaluate_folders(options)
    summary = summarise(evaluation.measured, evaluation.groups)
    has_intervals = summary.groups >= FEWEST_GROUPS
    interval = f"; in brackets 95 % intervals that resample {arguments.by}s" if has_intervals else ""
    plural = "" if summary.groups == 1 else "s"
    print(f"{summary.frames} frames of {summary.groups} {arguments.by}{plural}{interval}\n\n{table_of(summary)}")
    notes = list(evaluation.notes)
    if not has_intervals:
        notes.append(f"All frames are of one {arguments.by}: no intervals, which need at least {FEWEST_GROUPS}.")
    print("\n" + "\n".join(notes))
    if arguments.csv is not None:
        with written_beside(arguments.csv, overwrite=arguments.force) as partial:
            write_csv(partial, evaluation)
    _write_summary(arguments, summary, notes, None)
    if of_other is not None:
        other = evaluate_folders(of_other)
        difference = paired_differences(evaluation.measured, other.measured, evaluation.groups)
        print(f"\n{arguments.predictions} minus {arguments.against}\n\n{table_of(difference)}")
        of_others = [f"{arguments.against}: {note}" for note in other.notes if note not in notes]
        if of_others:
            print("\n" + "\n".join(of_others))
        _write_summary(arguments, summary, notes + of_others, difference)


def _check_other(other: FoundFrames, found: FoundFrames, arguments: argparse.Namespace) -> None:
    """Raise InputError where the other predictions cannot be compared, or would be replaced by a result."""
    check_not_read((arguments.csv, arguments.json), other.files)
    if other.class_names != found.class_names:
        raise InputError(
            f"{arguments.against} has the classes {', '.join(sorted(other.class_names))}, and {arguments.predictions} "
            f"has {', '.join(sorted(found.class_names))}: give predictions of one data set."
        )


def _write_summary(
    arguments: argparse.Namespace, summary: Summary, notes: Sequence[str], difference: Summary | None
) -> None:
    """Write the JSON where it is asked for; with the difference it replaces the one without."""
    if arguments.json is None:
        return
    named = ("predictions", "labels", "probabilities", "by", "frames", "fold", "against")
    given = {name: str(value) for name in named if (value := getattr(arguments, name)) is not None}
    if difference is None:
        given.pop("against", None)
    with written_beside(arguments.json, overwrite=arguments.force or difference is not None) as partial:
        write_json(partial, summary, given, notes, difference)
