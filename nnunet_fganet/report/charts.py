"""The page's charts: metric bars, training curves, calibration, sequences through time."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from nnunet_fganet.report import svg
from nnunet_fganet.report.document import Prediction, RunDocument, in_time
from nnunet_fganet.report.metrics import SHOWN, Shown, number

COLOURS = 8
"""Colours that the style sheet has."""
DASHES = ("", "7 3", "2 3")
"""Of lines: neighbours differ in more than colour, and 24 entries in one or the other."""
_BAR_LEFT, _BAR_RIGHT, _BAR_ROW = 4, 300, 34
_CELL, _ROW = 12, 18
_SCALE = matplotlib.colormaps["cividis"]


def metric_bars(run: RunDocument) -> list[str]:
    """A chart for each metric of the tables: a bar for each entry, with its interval (the paper's Fig. 7)."""
    return [chart for shown in SHOWN if (chart := _bars(run, shown)) is not None]


def _bars(run: RunDocument, shown: Shown) -> str | None:
    figures = [entry["metrics"].get(shown.key) for entry in run.summary["entries"]]
    values = [number(figure and figure["value"]) for figure in figures]
    if all(math.isnan(value) for value in values):
        return None
    highs = [number(figure and figure["high"]) for figure in figures]
    top = 1.0 if shown.percent else max(1e-9, np.nanmax([*values, *highs]))
    described = "; ".join(f"{title} {shown.text(value)}" for title, value in zip(run.titles, values, strict=True))
    height = 26 + _BAR_ROW * len(values)
    drawing = svg.drawing(shown.heading, described, height)
    for row, (title, figure, value) in enumerate(zip(run.titles, figures, values, strict=True)):
        group = svg.add(drawing, "g", f"entry e{row % COLOURS}", data_entry=str(row))
        y = 26 + _BAR_ROW * row
        svg.text(group, title, _BAR_LEFT, y + 10, "bar-name")
        _bar(group, figure, value, y + 14, top, shown)
    return svg.as_text(drawing)


def _bar(group: ElementTree.Element, figure: Any, value: float, y: float, top: float, shown: Shown) -> None:
    if math.isnan(value):
        svg.text(group, "-", _BAR_LEFT, y + 11, "bar-value")
        return
    scale = (_BAR_RIGHT - _BAR_LEFT) / top
    svg.add(
        group, "rect", "bar", x=str(_BAR_LEFT), y=f"{y}", width=f"{max(value, 0) * scale:.1f}", height="12", rx="1.5"
    )
    low, high = number(figure["low"]), number(figure["high"])
    if not math.isnan(low):
        left, right = (f"{_BAR_LEFT + edge * scale:.1f}" for edge in (low, high))
        path = f"M{left} {y + 6}H{right}M{left} {y + 2}v8M{right} {y + 2}v8"
        svg.add(group, "path", "whisker-back", d=path)
        svg.add(group, "path", "whisker", d=path)
    svg.text(group, shown.text(value), svg.WIDTH, y + 10, "bar-value", text_anchor="end")


def training_curves(run: RunDocument) -> list[str]:
    """Loss of training and validation batches and nnU-Net's Dice, one line for each training."""
    wanted = {
        "train_loss": "Training loss",
        "validation_loss": "Validation loss",
        "pseudo_dice": "Dice of validation batches",
    }
    return [_curves(run, key, title) for key, title in wanted.items()]


def _curves(run: RunDocument, key: str, title: str) -> str:
    lines = [
        (number_of_entry, each["name"], [number(value) for value in each["curves"][key]])
        for number_of_entry, entry in enumerate(run.summary["entries"])
        for each in entry["runs"]
    ]
    values = [value for _, _, curve in lines for value in curve if math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    epochs = max((len(curve) for _, _, curve in lines), default=1)
    drawing = svg.drawing(title, f"{len(lines)} trainings over {epochs} epochs, from {high:.3g} to {low:.3g}")
    axes = svg.draw_axes(drawing, (1, max(epochs, 2)), (low - margin, high + margin), "epoch", whole=True)
    for entry, name, curve in lines:
        _line(drawing, axes, entry, name, range(1, len(curve) + 1), curve)
    return svg.as_text(drawing)


def _line(
    parent: ElementTree.Element, axes: svg.Axes, entry: int, name: str, xs: Sequence[float], ys: Sequence[float]
) -> None:
    group = svg.add(parent, "g", f"entry e{entry % COLOURS}", data_entry=str(entry))
    dash = DASHES[entry % len(DASHES)]
    line = svg.add(group, "polyline", "line", points=axes.points(xs, ys), stroke_dasharray=dash or "none")
    ElementTree.SubElement(line, "title").text = name


def calibration_curves(run: RunDocument) -> str | None:
    """Share of wire pixels against the mean probability in bins of it; None without probabilities."""
    counts = {
        entry: np.sum(histograms, axis=0)
        for entry, histograms in _calibrations(run.predictions).items()
        if histograms is not None
    }
    if not counts:
        return None
    drawing = svg.drawing(
        "Share of wire among pixels of a probability",
        f"A line for each of {len(counts)} networks; diagonal: calibrated",
    )
    axes = svg.draw_axes(drawing, (0, 1), (0, 1), "predicted probability of wire, mean of the bin")
    svg.add(drawing, "polyline", "diagonal", points=axes.points((0, 1), (0, 1)))
    for entry, (pixels, wire, probability) in counts.items():
        filled = pixels > 0
        xs, ys = probability[filled] / pixels[filled], wire[filled] / pixels[filled]
        _line(drawing, axes, entry, run.titles[entry], xs.tolist(), ys.tolist())
        group = drawing[-1]
        for x, y, n in zip(xs, ys, pixels[filled], strict=True):
            dot = svg.add(group, "circle", "dot", cx=f"{axes.x(x):.1f}", cy=f"{axes.y(y):.1f}", r="2.6")
            ElementTree.SubElement(dot, "title").text = f"{run.titles[entry]}: {y:.2f} of {n:.0f} pixels at {x:.2f}"
    return svg.as_text(drawing)


def _calibrations(predictions: Iterable[Prediction]) -> dict[int, list[Any] | None]:
    found: dict[int, list[Any] | None] = {}
    for prediction in predictions:
        own = found.setdefault(prediction.entry, [])
        histogram = prediction.figures["calibration"]
        if histogram is None:
            found[prediction.entry] = None
        elif own is not None:
            own.append(np.asarray(histogram, dtype=np.float64))
    return found


def strip(run: RunDocument, cases: Sequence[str], dice: Mapping[tuple[int, str], float]) -> str:
    """A sequence through time: a row for each entry, a cell for each frame, dark where Dice is low.

    Parameters
    ----------
    run
        The run folder.
    cases
        Frames of the sequence.
    dice
        Mean Dice over seeds and classes by entry and frame.
    """
    ordered, own = sorted(cases, key=in_time), set(cases)
    width, height = _CELL * len(ordered), _ROW * len(run.titles)
    lowest = min(((value, entry, case) for (entry, case), value in dice.items() if case in own), default=None)
    said = "" if lowest is None else f": lowest {lowest[0]:.2f}, {run.titles[lowest[1]]}, {lowest[2]}"
    drawing = ElementTree.Element(
        "svg",
        {
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "class": "strip",
            "aria-label": f"Dice of {len(ordered)} frames through time{said}",
        },
    )
    for entry in range(len(run.titles)):
        group = svg.add(drawing, "g", "entry-row", data_entry=str(entry))
        for column, case in enumerate(ordered):
            _cell(group, entry, column, case, dice.get((entry, case)), run.titles[entry])
    return svg.as_text(drawing)


def _cell(group: ElementTree.Element, entry: int, column: int, case: str, value: float | None, title: str) -> None:
    cell = svg.add(
        group,
        "rect",
        "cell",
        x=str(_CELL * column),
        y=str(_ROW * entry),
        width=str(_CELL - 1),
        height=str(_ROW - 2),
        fill="none" if value is None else heat(value),
        data_case=case,
        data_of=str(entry),
    )
    shown = "no prediction" if value is None else f"Dice {value:.3f}"
    ElementTree.SubElement(cell, "title").text = f"{case}, {title}: {shown}"


def heat(value: float) -> str:
    """Colour of a share in [0, 1]: from dark blue to yellow, the same order in any sight and in print."""
    return to_hex(_SCALE(value))


def mean_dice(predictions: Sequence[Prediction], key: Callable[[Prediction], Any]) -> dict[Any, float]:
    """Mean Dice of predictions that share a key."""
    found: dict[Any, list[float]] = {}
    for prediction in predictions:
        found.setdefault(key(prediction), []).append(prediction.dice)
    return {name: float(np.mean(values)) for name, values in found.items()}
