"""The few SVG shapes that the page's charts are made of; colours are the page's (CSS), text is escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

WIDTH, HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 36
_STEPS = (1, 2, 5, 10)
_PARTS = 6


def drawing(title: str, description: str, height: float = HEIGHT) -> ElementTree.Element:
    """An empty picture, 360 units wide, that screen readers read out by its title and description."""
    svg = ElementTree.Element(
        "svg",
        {
            "viewBox": f"0 0 {WIDTH} {height:g}",
            "role": "img",
            "aria-label": f"{title}. {description}",
            "class": "chart",
        },
    )
    text(svg, title, 0, 14, "chart-title")
    return svg


def text(parent: ElementTree.Element, content: str, x: float, y: float, style: str, **attributes: str) -> None:
    """Write a line of text that begins (or as ``text_anchor`` says) at a point."""
    add(parent, "text", style, x=f"{x:.1f}", y=f"{y:.1f}", **attributes).text = content


def add(parent: ElementTree.Element, kind: str, style: str, **attributes: str) -> ElementTree.Element:
    """Add a shape; underscores in names of attributes stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return ElementTree.SubElement(parent, kind, {"class": style, **named})


def as_text(svg: ElementTree.Element) -> str:
    """The picture as markup."""
    return ElementTree.tostring(svg, encoding="unicode")


@dataclass(frozen=True)
class Axes:
    """Two axes that were drawn: places of values."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """Place of a value on the horizontal axis."""
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Place of a value on the vertical axis."""
        low, high = self.y_range
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Points of a line; those that are no numbers are left out."""
        places = ((self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True) if np.isfinite(x) and np.isfinite(y))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def draw_axes(
    svg: ElementTree.Element,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_name: str,
    whole: bool = False,
) -> Axes:
    """Draw two axes with their ticks and the name of the horizontal one (the vertical one is the chart's title).

    Where ``whole`` is true the horizontal one counts something: ticks are whole numbers.
    """
    axes = Axes(x_range, y_range)
    for value in ticks(*y_range):
        y = axes.y(value)
        add(svg, "line", "grid", x1=str(_LEFT), x2=str(WIDTH - _RIGHT), y1=f"{y:.1f}", y2=f"{y:.1f}")
        text(svg, f"{value:g}", _LEFT - 6, y + 4, "tick", text_anchor="end")
    for value in ticks(*x_range, 1 if whole else 0):
        text(svg, f"{value:g}", axes.x(value), HEIGHT - _BOTTOM + 15, "tick", text_anchor="middle")
    text(svg, x_name, (WIDTH + _LEFT - _RIGHT) / 2, HEIGHT - 4, "tick", text_anchor="middle")
    return axes


def ticks(low: float, high: float, least_step: float = 0) -> list[float]:
    """Round numbers, at least so far apart, that divide a range into about six parts at most; never -0."""
    rough = max((high - low) / _PARTS, least_step)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in _STEPS if power * factor >= rough * (1 - 1e-9))
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [float(round(number * step, 10)) + 0.0 for number in np.arange(first, last + 1)]
