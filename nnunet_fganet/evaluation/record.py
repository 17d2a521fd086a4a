"""Which sequence and patient a frame is of, and how long its pixels are: the converter's ``frames.csv``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_conversion.sequences import sequence_of_name
from dataset_conversion.tables import read_table
from dataset_conversion.writing import FRAMES_FILE
from nnunet_fganet.errors import InputError
from nnunet_fganet.evaluation.labels import file_of_dataset

GROUPINGS = ("sequence", "patient")


@dataclass(frozen=True)
class FrameRecord:
    """What is known of a frame; None where it is not."""

    sequence: str | None
    patient: str | None
    spacing_mm: float | None


def find_record(labels: Path, given: Path | None) -> Path | None:
    """Find the record: the given file, or the one in the labels' data set; None without one."""
    if given is not None:
        return given
    beside = file_of_dataset(labels, FRAMES_FILE)
    return beside if beside.is_file() else None


def read_record(path: Path) -> dict[str, FrameRecord]:
    """Read a table with the column ``case`` and, as far as they are known, ``sequence,patient,spacing_mm``.

    Raises
    ------
    InputError
        The file cannot be read, names a frame twice, or has a spacing that is no length.
    """
    record: dict[str, FrameRecord] = {}
    for row in read_table(path, required=("case",)):
        if row["case"] in record:
            raise InputError(f"{path} names the frame {row['case']} twice: keep one of its rows.")
        spacing = row.get("spacing_mm", "")
        record[row["case"]] = FrameRecord(
            row.get("sequence") or None, row.get("patient") or None, _length(spacing, path) if spacing else None
        )
    return record


def _length(text: str, path: Path) -> float:
    try:
        length = float(text)
    except ValueError:
        length = math.nan
    if not 0 < length < math.inf:
        raise InputError(f"{path} has the spacing_mm {text!r}: give the length of a pixel in millimetres.")
    return length


def records_of(cases: Sequence[str], path: Path | None) -> dict[str, FrameRecord]:
    """Records of the frames that are evaluated; without a table, the sequence is the file name up to its last number.

    Raises
    ------
    InputError
        The table cannot be used, or lacks a frame.
    """
    if path is None:
        return {case: FrameRecord(sequence_of_name(case), None, None) for case in cases}
    record = read_record(path)
    missing = [case for case in cases if case not in record]
    if missing:
        raise InputError(f"{path} lacks {len(missing)} of {len(cases)} frames ({name_some(missing)}): add their rows.")
    return {case: record[case] for case in cases}


def groups_of(records: dict[str, FrameRecord], by: str, path: Path | None) -> dict[str, str]:
    """Name the sequence, or the patient, of every frame; a sequence's name that several patients have, with theirs.

    Raises
    ------
    InputError
        It is not known of a frame, or the patient is not where several have a sequence of that name.
    """
    groups = {case: record.patient if by == "patient" else record.sequence for case, record in records.items()}
    unknown = [case for case, group in groups.items() if group is None]
    if unknown:
        table = f"{path} does not say" if path is not None else f"there is no {FRAMES_FILE} that says"
        raise InputError(
            f"--by {by}: {table} which {by} {name_some(unknown)} belongs to: name a table with --frames"
            f"{', or resample sequences' if by == 'patient' else ''}."
        )
    named = {case: group for case, group in groups.items() if group is not None}
    if by == "patient":
        return named
    patients: dict[str, set[str]] = {}
    for case, sequence in named.items():
        patients.setdefault(sequence, set()).update(filter(None, [records[case].patient]))
    shared = {case for case, sequence in named.items() if len(patients[sequence]) > 1}
    without = [case for case in shared if records[case].patient is None]
    if without:
        raise InputError(
            f"{path} has sequences of one name in several patients, and no patient for {name_some(without)}: add it."
        )
    return {case: f"{records[case].patient}/{name}" if case in shared else name for case, name in named.items()}


def name_some(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, for a sentence."""
    return ", ".join(sorted(names)[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
