"""How the page shows figures: which, under which heading, in which unit."""

import math
from dataclasses import dataclass
from typing import Any

from nnunet_fganet.comparison.table import LOWER_IS_BETTER, PAPER_COLUMNS, PERCENT, SHAPE_COLUMNS
from nnunet_fganet.evaluation.summary import METRICS, Figure


@dataclass(frozen=True)
class Shown:
    """A figure of tables and charts."""

    key: str
    title: str
    percent: bool
    higher_is_better: bool

    @property
    def heading(self) -> str:
        """Its title with the unit, and a mark where lower is better."""
        unit, mark = ", %" if self.percent else "", "" if self.higher_is_better else f" {LOWER_IS_BETTER}"
        return f"{self.title}{unit}{mark}"

    def text(self, value: float) -> str:
        """A value as the tables have it; ``-`` where there is none."""
        if math.isnan(value):
            return "-"
        return f"{100 * value:.1f}" if self.percent else f"{value:.2f}"


_HIGHER = {metric.key: metric.higher_is_better for metric in METRICS}
SHOWN = tuple(
    Shown(key, title, key in PERCENT, _HIGHER[key]) for key, title in {**PAPER_COLUMNS, **SHAPE_COLUMNS}.items()
)
OF_A_FRAME = tuple(
    Shown(key, title, percent, higher)
    for key, title, percent, higher in (
        ("dice", "Dice", True, True),
        ("cldice", "clDice", True, True),
        ("one_piece", "in one piece", False, True),
        ("hd95", "HD95, px", False, False),
        ("tip_error", "tip error, px", False, False),
        ("false_positive", "false, px", False, False),
        ("false_negative", "missed, px", False, False),
    )
)


def number(value: Any) -> float:
    """A number of the summary, whose ``null`` is not a number."""
    return math.nan if value is None else float(value)


def as_figure(document: dict[str, Any]) -> Figure:
    """A figure of the summary."""
    return Figure(number(document["value"]), number(document["low"]), number(document["high"]), document["frames"])
