"""What the file names of frames say: frames of a sequence are numbered."""

import re

_UP_TO_LAST_NUMBER = re.compile(r"(.*?)[-_. ]*(\d+)\D*")


def split_at_last_number(stem: str) -> tuple[str, int]:
    """Sequence and number of a frame, ``("seq03", 12)`` for ``seq03_012``.

    Parameters
    ----------
    stem
        File name without its ending.

    Returns
    -------
    sequence, number
        What stands before the last number, without the separator between; all of a name that has no number, and 0.
    """
    match = _UP_TO_LAST_NUMBER.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, 0)
