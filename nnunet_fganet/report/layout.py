"""What the page reads from a summary: checked before anything is made of it, so that what is missing has a name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nnunet_fganet.comparison.table import PAPER_COLUMNS
from nnunet_fganet.report.metrics import OF_A_FRAME, SHOWN

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Each:
    """Items of a list, or values of an object, of one layout; ``least`` is how many there have to be."""

    layout: Any
    least: int = 1


@dataclass(frozen=True)
class OrNull:
    """``null``, or a layout."""

    layout: Any


def _values(keys: Iterable[str], layout: Any = None) -> dict[str, Any]:
    return dict.fromkeys(keys, layout)


_METRICS = {"metrics": _values((shown.key for shown in SHOWN), _values(("value", "low", "high", "frames")))}
_FRAME = _values(
    (
        *("case", "class", "prediction", "calibration", "true_positive", "false_negative"),
        *(shown.key for shown in OF_A_FRAME),
    )
)
_RUN = {
    **_values(("name", "fold", "seed", "configuration", "model", "checkpoint")),
    "curves": _values(("train_loss", "validation_loss", "pseudo_dice", "seconds"), Each(None, least=0)),
    "flatness": _values(("fall", "is_flat", "verdict")),
    "frames": Each(_FRAME),
}
_ENTRY = {**_values(("name", "title", "network")), **_METRICS, "difference": OrNull(_METRICS), "runs": Each(_RUN)}
_LATENCY = _values(("how", "dtype", "milliseconds", "low", "high"))
_COST = {**_values(("parameters", "multiply_accumulates", "paper_count")), "latencies": Each(_LATENCY, least=0)}
SUMMARY = {
    **_values(("kind", "reference", "labels", "images", "frames", "machine")),
    "terms": _values(("dataset", "patch")),
    "selection": _values(("folds", "seeds", "by")),
    "groups": Each(None),
    "entries": Each(_ENTRY),
    "costs": Each(_COST, least=0),
    "paper": Each(_values(("title", *PAPER_COLUMNS, "gflops", "milliseconds")), least=0),
    "versions": Each(None, least=0),
    "notes": Each(None, least=0),
}


def first_lacking(value: Any, layout: Any = SUMMARY) -> str | None:
    """Name the first part that a document lacks, as ``entries.0.runs.0.frames``; None where it has all of a layout.

    Layouts are objects (their keys, each with a layout), :class:`Each`, :class:`OrNull`, and None for anything.
    """
    path = next(_lacking(value, layout, ()), None)
    return None if path is None else ".".join(map(str, path)) or "everything"


def _lacking(value: Any, layout: Any, path: Path) -> Iterator[Path]:
    match layout:
        case OrNull() if value is not None:
            yield from _lacking(value, layout.layout, path)
        case Each():
            if not isinstance(value, list | dict) or len(value) < layout.least:
                yield path
                return
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from _lacking(item, layout.layout, (*path, key))
        case dict():
            if not isinstance(value, dict):
                yield path
                return
            for key, inner in layout.items():
                yield from _lacking(value[key], inner, (*path, key)) if key in value else [(*path, key)]
