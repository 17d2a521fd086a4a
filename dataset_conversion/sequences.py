"""Which sequence and which patient a frame belongs to, and what it is called."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dataset_conversion.frame import Frame
from dataset_conversion.tables import read_table
from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.names import split_at_last_number


def assign_sequences(frames: Sequence[Frame], pattern: str | None) -> list[Frame]:
    """Fill in ``sequence``: the manifest's, else what ``pattern`` finds, else the folder, else the name's beginning.

    Parameters
    ----------
    frames
        Those with a sequence keep it.
    pattern
        Regular expression, searched for in the file name without its ending. The sequence is its group called
        ``sequence``, else its first group, else all that it matches; frames of different folders stay apart.
        Without one, frames in folders of their own are a sequence; elsewhere the sequence is the file name up to
        its last number.

    Raises
    ------
    InputError
        The pattern is no regular expression, or does not match a frame.
    """
    try:
        expression = re.compile(pattern) if pattern is not None else None
    except re.error as error:
        raise InputError(f"--sequence-pattern {pattern} is no regular expression ({error}): correct it.") from None
    return [frame if frame.sequence else replace(frame, sequence=_sequence(frame, expression)) for frame in frames]


def _sequence(frame: Frame, expression: re.Pattern[str] | None) -> str:
    name = PurePosixPath(frame.source).stem
    folders = "/".join(frame.folders)
    if expression is None:
        return folders or sequence_of_name(name)
    match = expression.search(name)
    if match is None:
        raise InputError(
            f"--sequence-pattern {expression.pattern} does not match {frame.source}: it is searched for in {name!r}."
        )
    found = match.groupdict().get("sequence") or next(iter(match.groups()), None) or match.group(0)
    return f"{folders}/{found}" if folders else found


def sequence_of_name(name: str) -> str:
    """File name up to its last number, without the separator before it; all of a name without number."""
    return split_at_last_number(name)[0] or "sequence"


def assign_patients(frames: Sequence[Frame], groups: Path | None) -> list[Frame]:
    """Fill in ``patient`` from a CSV of ``image,group``; images by path in the source folder, file name or stem.

    Raises
    ------
    InputError
        A frame has no group, two groups, or the table names it in a way that other frames share.
    """
    if groups is None:
        return list(frames)
    if any(frame.patient for frame in frames):
        raise InputError(f"{groups} and the manifest both name patients: leave out --groups or the column patient.")
    patients: dict[str, str] = {}
    for row in read_table(groups, required=("image", "group")):
        if patients.setdefault(row["image"], row["group"]) != row["group"]:
            raise InputError(f"{groups} gives {row['image']} two groups: keep one of them.")
    shared = Counter(name for frame in frames for name in set(_names(frame)))
    return [replace(frame, patient=_patient(frame, patients, shared, groups)) for frame in frames]


def _names(frame: Frame) -> tuple[str, str, str]:
    path = PurePosixPath(frame.source)
    return frame.source, path.name, path.stem


def _patient(frame: Frame, patients: dict[str, str], shared: Counter[str], groups: Path) -> str:
    for name in _names(frame):
        if name in patients:
            if shared[name] > 1:
                raise InputError(
                    f"{groups} names {name}, of which there are several: write its path, such as {frame.source}."
                )
            return patients[name]
    raise InputError(f"{groups} has no group for {frame.source}: add a row for it.")


def assign_cases(frames: Sequence[Frame]) -> list[Frame]:
    """Fill in ``case``: the file name where all differ, else preceded by the frame's folders.

    Raises
    ------
    InputError
        Two frames still have one name.
    """
    cases = [_readable(PurePosixPath(frame.source).stem) for frame in frames]
    if len({case.casefold() for case in cases}) < len(cases):
        cases = [_readable("_".join([*frame.folders, case])) for frame, case in zip(frames, cases, strict=True)]
    first: dict[str, Frame] = {}
    for frame, case in zip(frames, cases, strict=True):
        if (other := first.setdefault(case.casefold(), frame)) is not frame:
            raise InputError(f"{other.source} and {frame.source} are two frames of one name: rename one of them.")
    return [replace(frame, case=case) for frame, case in zip(frames, cases, strict=True)]


def _readable(name: str) -> str:
    """Letters, digits, ``_``, ``.`` and ``-`` are safe in file names everywhere."""
    return re.sub(r"[^\w.-]+", "_", name)
