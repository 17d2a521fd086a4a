"""The benchmark as a bar chart."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from nnunet_fganet.benchmark.rows import Row

_BAR_INCHES, _PANEL_INCHES, _MARGIN_INCHES = 0.3, 0.7, 0.5


def plot_rows(rows: Sequence[Row], title: str, path: Path, file_format: str) -> None:
    """Draw a panel for each kind of row and frame size: medians as bars, extremes as whiskers, ratios as text."""
    panels: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        panels.setdefault((_kind(row), row.size), []).append(row)
    heights = [len(panel) * _BAR_INCHES + _PANEL_INCHES for panel in panels.values()]
    figure = Figure(figsize=(8, sum(heights) + _MARGIN_INCHES), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, ((kind, size), panel) in zip(axes, panels.items(), strict=True):
        medians = [row.milliseconds for row in panel]
        below = [row.milliseconds - row.fastest for row in panel]
        above = [row.slowest - row.milliseconds for row in panel]
        axis.barh(
            [row.name for row in panel], medians, xerr=(below, above), color="#4878a8", ecolor="#333333", capsize=2
        )
        for y, row in enumerate(panel):
            axis.text(row.slowest, y, f"  {row.milliseconds:.0f} ms, {row.ratio:.2g}x", va="center", fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.3 * max(row.slowest for row in panel))
        axis.set_title(f"{kind}, {size} x {size} px", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("milliseconds (median; whiskers: fastest and slowest)")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, format=file_format, dpi=150)


def _kind(row: Row) -> str:
    if row.name.startswith("train-"):
        return "training step"
    return "loss" if row.name.startswith("loss-") else "one frame"
