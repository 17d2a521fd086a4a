"""Reads the CSV files that a user gives."""

import csv
from itertools import zip_longest
from pathlib import Path

from nnunet_fganet.errors import InputError


def read_table(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a comma-separated file by column name (in lower case), spaces trimmed, empty lines left out.

    Raises
    ------
    InputError
        The file is missing, is no text, lacks a required column, or a row lacks a value in one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(filter(any, reader), [])]
            lines = [(reader.line_num, [value.strip() for value in values]) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV file ({error}): save it as comma-separated UTF-8.") from None
    _check_header(path, header, required)
    rows = []
    for number, values in lines:
        if not any(values):
            continue
        row = dict(zip_longest(header, values[: len(header)], fillvalue=""))
        for column in required:
            if not row[column]:
                raise InputError(
                    f"{path}, line {number}, has no value in column {column}: fill in {', '.join(required)} everywhere."
                )
        rows.append(row)
    if not rows:
        raise InputError(f"{path} has no rows: it needs the columns {', '.join(required)} and a row for each frame.")
    return rows


def _check_header(path: Path, header: list[str], required: tuple[str, ...]) -> None:
    """Raise where the first line that a table has lacks a column."""
    missing = [column for column in required if column not in header]
    if not header or not missing:
        return
    found = ", ".join(header)
    if ";" in found:
        raise InputError(f"{path} is separated by semicolons ({found}): save it as comma-separated UTF-8.")
    raise InputError(f"{path} lacks the column {missing[0]}, it has {found}: name it in the first line.")
