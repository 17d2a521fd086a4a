"""Types of command-line arguments."""

import argparse


def positive_integer(text: str) -> int:
    """Read a whole number of at least 1, for ``type=`` of an argument."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return number


def natural_number(text: str) -> int:
    """Read a whole number of at least 0, for ``type=`` of an argument."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)
