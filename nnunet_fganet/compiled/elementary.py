"""Elementary functions for compiled loops, of one float32 number or of sixteen (:mod:`.lanes`), without branches."""

from typing import Any

import numpy as np

from nnunet_fganet.compiled.decorators import compiled
from nnunet_fganet.compiled.lanes import bounded, power_of_two, rounded_down

_F = np.float32


@compiled
def exponential(x: Any) -> Any:
    """``e ** x`` to some 1e-7 of it, for ``x`` between -60 and 60; beyond, as at these bounds.

    What is smaller than ``e ** -60`` would be multiplied to numbers so small that processors take a hundred times as
    long for them.
    """
    # e^x = 2^n e^r with |r| <= ln(2) / 2, and e^r by its Taylor polynomial (next term: 4e-8).
    x = bounded(x, _F(-60), _F(60))
    n = rounded_down(x * _F(1.44269504) + _F(0.5))
    r = x - n * _F(0.693359375) - n * _F(-2.12194440e-4)  # ln(2) in two parts
    p = r * _F(1 / 720) + _F(1 / 120)
    p = p * r + _F(1 / 24)
    p = p * r + _F(1 / 6)
    p = p * r + _F(0.5)
    p = p * r * r + r + _F(1)
    return p * power_of_two(n)


@compiled
def sigmoid(x: Any) -> Any:
    """Logistic function, to some 1e-7."""
    return _F(1) / (exponential(_F(0) - x) + _F(1))


@compiled
def gelu(x: Any) -> Any:
    """``x`` times the normal distribution's cumulative function, to some 1e-7 of ``x`` (torch's GELU)."""
    size, tail, _ = _normal(x)
    above = bounded(x, _F(0), _F(np.inf))
    return above - size * tail * _F(1.41421356)


@compiled
def gelu_slope(x: Any) -> Any:
    """Slope of :func:`gelu`, to some 1e-7."""
    _, tail, bell = _normal(x)
    is_above = bounded(x * _F(1e30), _F(0), _F(1))
    return is_above + tail - _F(2) * is_above * tail + bounded(x, _F(-10.6), _F(10.6)) * bell * _F(0.39894228)


@compiled
def _normal(x: Any) -> tuple[Any, Any, Any]:
    """``|x| / sqrt(2)``, bounded; the normal distribution beyond ``|x|``, and ``e ** (-x ** 2 / 2)``.

    The error function is Abramowitz and Stegun's 7.1.26.
    """
    z = x * _F(0.70710678)
    size = bounded(z, _F(0), _F(7.5)) + bounded(_F(0) - z, _F(0), _F(7.5))
    t = _F(1) / (size * _F(0.3275911) + _F(1))
    p = t * _F(1.061405429) + _F(-1.453152027)
    p = p * t + _F(1.421413741)
    p = p * t + _F(-0.284496736)
    p = p * t + _F(0.254829592)
    bell = exponential(_F(0) - size * size)
    return size, p * t * bell * _F(0.5), bell
