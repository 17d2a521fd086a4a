"""``fganet evaluate``: how well predicted masks agree with labels."""

import argparse
from dataclasses import replace
from pathlib import Path

from nnunet_fganet.cli.arguments import positive_integer
from nnunet_fganet.evaluation.bootstrap import FEWEST_GROUPS
from nnunet_fganet.evaluation.folders import Evaluation, EvaluationOptions, evaluate_folders
from nnunet_fganet.evaluation.record import GROUPINGS
from nnunet_fganet.evaluation.report import table_of, write_csv, write_json
from nnunet_fganet.evaluation.summary import Summary, check_groups, paired_differences, summarise
from nnunet_fganet.files import check_new_files, written_beside
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
    """Evaluate, print the tables, then write the files."""
    check_new_files({"--csv": arguments.csv, "--json": arguments.json}, arguments.force)
    options = EvaluationOptions(**{name: getattr(arguments, name) for name in EvaluationOptions.__dataclass_fields__})
    evaluation = evaluate_folders(options)
    summary = summarise(evaluation.measured, evaluation.groups)
    has_intervals = summary.groups >= FEWEST_GROUPS
    interval = f"; in brackets 95 % intervals that resample {arguments.by}s" if has_intervals else ""
    plural = "" if summary.groups == 1 else "s"
    print(f"{summary.frames} frames of {summary.groups} {arguments.by}{plural}{interval}\n\n{table_of(summary)}")
    notes, difference = list(evaluation.notes), None
    if not has_intervals:
        notes.append(f"All frames are of one {arguments.by}: no intervals, which need at least {FEWEST_GROUPS}.")
    if arguments.against is not None:
        difference, notes_of_other = _differences(evaluation, options, arguments.against)
        print(f"\n{arguments.predictions} minus {arguments.against}\n\n{table_of(difference)}")
        notes += [f"{arguments.against}: {note}" for note in notes_of_other if note not in notes]
    print("\n" + "\n".join(notes))
    if arguments.csv is not None:
        with written_beside(arguments.csv, overwrite=arguments.force) as partial:
            write_csv(partial, evaluation)
    if arguments.json is not None:
        named = ("predictions", "labels", "probabilities", "by", "frames", "fold", "against")
        given = {name: value for name in named if (value := getattr(arguments, name)) is not None}
        with written_beside(arguments.json, overwrite=arguments.force) as partial:
            write_json(partial, summary, {k: str(v) for k, v in given.items()}, notes, difference)


def _differences(evaluation: Evaluation, options: EvaluationOptions, against: Path) -> tuple[Summary, list[str]]:
    """Differences to other predictions of the same frames, and what there is to know about these."""
    check_groups(evaluation.groups.values())
    other = evaluate_folders(replace(options, predictions=against, probabilities=None))
    return paired_differences(evaluation.measured, other.measured, evaluation.groups), other.notes
