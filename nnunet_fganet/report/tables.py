"""The page's tables: cells with what sorts them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_fganet.comparators.registry import COMPARATORS
from nnunet_fganet.comparison.progress import duration
from nnunet_fganet.comparison.table import (
    COST_HEADER,
    NOT_FLAT,
    PAPER_COLUMNS,
    SHAPE_COLUMNS,
    TRAINING_HEADER,
    difference_cell,
    difference_found,
    figure_cell,
)
from nnunet_fganet.report.document import RunDocument
from nnunet_fganet.report.metrics import SHOWN, as_figure, number


@dataclass(frozen=True)
class Cell:
    """Text and, where it is a number, what sorts it; ``style`` is a class of the style sheet."""

    text: str
    value: float | None = None
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; ``entries`` has the number of the entry of each row, for the filter."""

    name: str
    header: list[str]
    rows: list[list[Cell]]
    entries: Sequence[int | None] = ()

    @property
    def numbered_rows(self) -> list[tuple[int | None, list[Cell]]]:
        """Rows with their entries."""
        return list(zip(self.entries or [None] * len(self.rows), self.rows, strict=True))


def figure_tables(run: RunDocument) -> list[Table]:
    """The paper's columns, and what these do not see; the best of each column, among results, has a star."""
    return [
        _figures(run, name, columns)
        for name, columns in (("The paper's metrics", PAPER_COLUMNS), ("Shape of the wire", SHAPE_COLUMNS))
    ]


def _figures(run: RunDocument, name: str, columns: Mapping[str, str]) -> Table:
    shown = [one for one in SHOWN if one.key in columns]
    entries = run.summary["entries"]
    rows = [[Cell(_marked(entry))] for entry in entries]
    for one in shown:
        figures = [as_figure(entry["metrics"][one.key]) for entry in entries]
        values = [
            figure.value
            for entry, figure in zip(entries, figures, strict=True)
            if not _is_not_flat(entry) and not math.isnan(figure.value)
        ]
        tied = len({one.text(value) for value in values}) < 2
        best = (max if one.higher_is_better else min)(values, default=math.nan)
        for entry, row, figure in zip(entries, rows, figures, strict=True):
            is_best = not tied and not _is_not_flat(entry) and one.text(figure.value) == one.text(best)
            style = "best" if is_best else ""
            row.append(Cell(figure_cell(one.key, figure), _sorted_by(figure.value), style))
    return Table(name, ["", *_headings(columns)], rows, list(range(len(entries))))


def difference_tables(run: RunDocument) -> list[Table]:
    """The reference minus each other entry, marked where one of the two is no result; empty where there is none."""
    entries = run.summary["entries"]
    numbered = [(number_, each) for number_, each in enumerate(entries) if each["difference"] is not None]
    if not numbered:
        return []
    reference_is_not_flat = any(each["difference"] is None and _is_not_flat(each) for each in entries)
    tables = []
    for name, columns in (("The paper's metrics", PAPER_COLUMNS), ("Shape of the wire", SHAPE_COLUMNS)):
        rows = []
        for _, entry in numbered:
            is_not_flat = reference_is_not_flat or _is_not_flat(entry)
            row = [Cell(_titled(entry, is_not_flat))]
            for key in columns:
                figure = as_figure(entry["difference"]["metrics"][key])
                style = "none-found" if not difference_found(figure) else "" if is_not_flat else "found"
                row.append(Cell(difference_cell(key, figure), _sorted_by(figure.value), style))
            rows.append(row)
        tables.append(Table(name, ["", *_headings(columns)], rows, [number_ for number_, _ in numbered]))
    return tables


def cost_table(run: RunDocument) -> Table | None:
    """What a frame costs with each network; None where that was not measured."""
    rows, entries = [], []
    for network, index in _entry_of_network(run.summary["entries"]).items():
        if network not in run.summary["costs"]:
            continue
        title = COMPARATORS[network].title if network in COMPARATORS else run.titles[index]
        cost = run.summary["costs"][network]
        for latency in cost["latencies"]:
            milliseconds = latency["milliseconds"]
            rows.append(
                [
                    Cell(f"{title}, {latency['how']}"),
                    _scaled(cost["parameters"] / 1e6, 2),
                    _scaled(cost["multiply_accumulates"] / 1e9, 2),
                    _scaled(cost["paper_count"] / 1e9, 2),
                    Cell(f"{milliseconds:.1f} ({latency['low']:.1f} to {latency['high']:.1f})", milliseconds),
                    Cell(latency["dtype"]),
                ]
            )
            entries.append(index)
    return Table("Cost of a frame", COST_HEADER, rows, entries) if rows else None


def _entry_of_network(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Number of the entry that stands for each network: the one with its name, or else the first that trained it."""
    found: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry["network"] not in found or entry["name"] == entry["network"]:
            found[entry["network"]] = index
    return found


def training_table(run: RunDocument) -> Table:
    """A row for each training."""
    rows, entries = [], []
    for index, entry in enumerate(run.summary["entries"]):
        for each in entry["runs"]:
            curves, flatness = each["curves"], each["flatness"]
            seconds = sum(curves["seconds"])
            fall = number(flatness["fall"])
            last = number(curves["train_loss"][-1]) if curves["train_loss"] else math.nan
            rows.append(
                [
                    Cell(entry["title"]),
                    Cell(str(each["fold"]), each["fold"]),
                    Cell(str(each["seed"]), each["seed"]),
                    Cell(str(len(curves["train_loss"])), len(curves["train_loss"])),
                    Cell(duration(seconds), seconds),
                    _scaled(last, 3),
                    _scaled(100 * fall, 1),
                    Cell(flatness["verdict"], style="" if flatness["is_flat"] else "warning"),
                ]
            )
            entries.append(index)
    return Table("Trainings", TRAINING_HEADER, rows, entries)


def paper_table(run: RunDocument) -> Table | None:
    """The paper's own rows, marked as such."""
    keys = [*PAPER_COLUMNS, "gflops", "milliseconds"]
    rows = [
        [Cell(f"{row['title']} (paper)"), *(_scaled(number(row[key]), 2) for key in keys)]
        for row in run.summary["paper"]
    ]
    header = ["", *(f"{title}, %" for title in PAPER_COLUMNS.values()), "its count, G", "ms a frame"]
    return Table("The paper's own figures", header, rows) if rows else None


def provenance(run: RunDocument) -> list[tuple[str, str]]:
    """What data, plans and versions made the run: names and what they are."""
    summary = run.summary
    facts: dict[str, Any] = {
        "run folder": run.root.resolve(),
        **{name.replace("_", " "): value for name, value in summary["terms"].items() if name not in ("kind", "patch")},
        "patch": " x ".join(map(str, summary["terms"]["patch"])),
        "folds": summary["selection"]["folds"],
        "seeds": summary["selection"]["seeds"],
        "intervals resample": f"{summary['selection']['by']}s",
        "frames": summary["frames"],
        "images": summary["images"],
        "labels": summary["labels"],
        "latencies measured on": summary["machine"],
    }
    return [(name, _listed(value)) for name, value in facts.items() if value is not None]


def _marked(entry: Mapping[str, Any]) -> str:
    """Title of a row; marked as in the terminal's tables where a training's loss had not become flat."""
    return _titled(entry, _is_not_flat(entry))


def _titled(entry: Mapping[str, Any], is_not_flat: bool) -> str:
    return f"{entry['title']} {NOT_FLAT}" if is_not_flat else entry["title"]


def _is_not_flat(entry: Mapping[str, Any]) -> bool:
    return any(not run["flatness"]["is_flat"] for run in entry["runs"])


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _headings(columns: Mapping[str, str]) -> list[str]:
    return [one.heading for one in SHOWN if one.key in columns]


def _scaled(value: float, digits: int) -> Cell:
    return Cell("-") if math.isnan(value) else Cell(f"{value:.{digits}f}", value)


def _sorted_by(value: float) -> float | None:
    return None if math.isnan(value) else value
