"""The table of a comparison, in Markdown that reads well in a terminal too, and as CSV."""

import csv
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from nnunet_fganet.comparators.registry import COMPARATORS
from nnunet_fganet.comparison.costs import Cost
from nnunet_fganet.comparison.curves import Curves, Flatness
from nnunet_fganet.comparison.entries import Entry
from nnunet_fganet.comparison.paper import PaperRow
from nnunet_fganet.comparison.progress import duration
from nnunet_fganet.comparison.runs import Run
from nnunet_fganet.comparison.scores import EntryScores
from nnunet_fganet.evaluation.summary import METRICS, Figure

# Columns: key, heading; those of the paper, and what its figures do not see.
PAPER_COLUMNS = {"auc": "AUC", "macro_f1": "Macro-F1", "dice": "Dice", "miou": "MIoU", "oiou": "OIoU"}
SHAPE_COLUMNS = {
    "cldice": "clDice",
    "one_piece": "in one piece",
    "betti0_error": "Betti-0 error",
    "betti1_error": "Betti-1 error",
    "hd95": "HD95, px",
    "tip_error": "tip error, px",
    "ece": "ECE",
}
PERCENT = {*PAPER_COLUMNS, "cldice", "one_piece", "ece"}
_LOWER_IS_BETTER = {metric.key for metric in METRICS if not metric.higher_is_better}
NONE_FOUND = "none found"
NOT_FLAT = "*"
DICE_OF_SEED = "Dice of the seed, all folds"
LOWER_IS_BETTER = "↓"
COST_HEADER = ["", "parameters, M", "GMAC", "the paper's count, G", "ms a frame", "computed in"]
TRAINING_HEADER = ["", "fold", "seed", "epochs", "time", "loss at the end", "fall in the last fifth, %", "loss curve"]
CSV_COLUMNS = (
    *("entry", "class", "metric", "value", "low", "high", "frames"),
    *("difference", "difference_low", "difference_high", "difference_found"),
)

Training = tuple[Run, Curves, Flatness]


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def figure_cell(key: str, figure: Figure) -> str:
    """Value and interval, in per cent where the paper has it so; ``-`` where there is none."""
    if math.isnan(figure.value):
        return "-"
    factor, digits = (100, 1) if key in PERCENT else (1, 2)
    value = f"{factor * figure.value:.{digits}f}"
    if math.isnan(figure.low):
        return value
    return f"{value} ({factor * figure.low:.{digits}f} to {factor * figure.high:.{digits}f})"


def difference_found(figure: Figure) -> bool:
    """Whether the interval of a difference does not hold zero."""
    return figure.low > 0 or figure.high < 0


def difference_cell(key: str, figure: Figure) -> str:
    """The difference with its interval, or ``none found`` with the interval where that holds zero."""
    if math.isnan(figure.value) or math.isnan(figure.low):
        return "-"
    factor, digits = (100, 1) if key in PERCENT else (1, 2)
    interval = f"({factor * figure.low:+.{digits}f} to {factor * figure.high:+.{digits}f})"
    return f"{factor * figure.value:+.{digits}f} {interval}" if difference_found(figure) else f"{NONE_FOUND} {interval}"


def figures_table(scores: Sequence[EntryScores], columns: Mapping[str, str], not_flat: Collection[Entry] = ()) -> str:
    """A row for each entry; ``not_flat`` are those whose loss had not become flat."""
    rows = [
        [_marked(each.entry, not_flat), *(figure_cell(key, each.summary.mean[key]) for key in columns)]
        for each in scores
    ]
    return as_markdown(["", *_headings(columns)], rows)


def differences_table(
    scores: Sequence[EntryScores], columns: Mapping[str, str], not_flat: Collection[Entry] = ()
) -> str:
    """A row for each entry but the reference; marked where it, or the reference, is ``not_flat``."""
    if any(each.difference is None and each.entry in not_flat for each in scores):
        not_flat = [each.entry for each in scores]
    rows = [
        [_marked(each.entry, not_flat), *(difference_cell(key, each.difference.mean[key]) for key in columns)]
        for each in scores
        if each.difference is not None
    ]
    return as_markdown(["", *_headings(columns)], rows)


def costs_table(scores: Sequence[EntryScores], costs: Mapping[str, Cost]) -> str:
    """A row for each network, and one more for each further way to run it."""
    titles = {each.entry.network: each.entry.title for each in scores}
    titles |= {network: COMPARATORS[network].title for network in titles if network in COMPARATORS}
    rows = []
    for network, title in titles.items():
        cost = costs[network]
        for latency in cost.latencies:
            counted = [
                f"{cost.parameters / 1e6:.2f}",
                f"{cost.multiply_accumulates / 1e9:.2f}",
                f"{cost.paper_count / 1e9:.2f}",
            ]
            time = f"{latency.milliseconds:.1f} ({latency.low:.1f} to {latency.high:.1f})"
            rows.append([f"{title}, {latency.how}", *counted, time, latency.dtype])
    return as_markdown(COST_HEADER, rows)


def paper_table(rows: Sequence[PaperRow]) -> str:
    """The paper's own rows, each marked as such."""
    cells = []
    for row in rows:
        values = [f"{value:.2f}" for value in (row.auc, row.macro_f1, row.dice, row.miou, row.oiou)]
        known = [row.gflops, row.milliseconds]
        cells.append([f"{row.title} (paper)", *values, *("-" if value is None else f"{value:.2f}" for value in known)])
    return as_markdown(["", *PAPER_COLUMNS.values(), "its count, G", "ms a frame"], cells)


def trainings_table(trainings: Sequence[Training], scores: Sequence[EntryScores]) -> str:
    """A row for each run: how long it took, what it reached, and whether its loss had become flat."""
    dice = {each.entry: {seed: summary.mean["dice"].value for seed, summary in each.seeds.items()} for each in scores}
    rows = []
    for run, curves, flatness in trainings:
        fall = "-" if flatness.fall is None else f"{100 * flatness.fall:.1f}"
        rows.append(
            [
                run.entry.title,
                str(run.fold),
                str(run.seed),
                str(len(curves.train_loss)),
                duration(sum(curves.seconds)),
                f"{curves.train_loss[-1]:.3f}",
                fall,
                flatness.verdict,
                f"{100 * dice[run.entry][run.seed]:.1f}",
            ]
        )
    return as_markdown([*TRAINING_HEADER, DICE_OF_SEED], rows)


def write_csv(path: Path, scores: Sequence[EntryScores]) -> None:
    """Write a row for each entry, class and metric, as shares and pixels; empty where there is nothing."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(CSV_COLUMNS)
        for each in scores:
            classes = {**each.summary.classes, "mean": each.summary.mean}
            differences = {**each.difference.classes, "mean": each.difference.mean} if each.difference else {}
            for name, figures in classes.items():
                for key, figure in figures.items():
                    row = [each.entry.name, name, key, *_numbers(figure), figure.frames]
                    difference = differences.get(name, {}).get(key)
                    if difference is not None:
                        row += [*_numbers(difference), int(difference_found(difference))]
                    table.writerow([*row, *[""] * (len(CSV_COLUMNS) - len(row))])


def _marked(entry: Entry, not_flat: Collection[Entry]) -> str:
    return f"{entry.title} {NOT_FLAT}" if entry in not_flat else entry.title


def _numbers(figure: Figure) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in (figure.value, figure.low, figure.high)]


def _headings(columns: Mapping[str, str]) -> list[str]:
    """Headings with their unit, and a mark where lower is better."""
    return [
        title + (", %" if key in PERCENT else "") + (f" {LOWER_IS_BETTER}" if key in _LOWER_IS_BETTER else "")
        for key, title in columns.items()
    ]
