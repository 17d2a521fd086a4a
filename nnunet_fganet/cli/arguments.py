"""Types of command-line arguments."""

import argparse
import math


def positive_integer(text: str) -> int:
    """Read a whole number of at least 1, for ``type=`` of an argument."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return number


def positive_number(text: str) -> float:
    """Read a finite number above 0, for ``type=`` of an argument."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return number


def fold(text: str) -> int | str:
    """Read nnU-Net's name of a fold, a whole number from 0 on or ``all``, for ``type=`` of an argument."""
    if text == "all":
        return text
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is neither the number of a fold nor 'all'")
    return int(text)


def natural_number(text: str) -> int:
    """Read a whole number of at least 0, for ``type=`` of an argument."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)
