"""Reads the CSV files that a user gives."""

import csv
from pathlib import Path

from nnunet_fganet.errors import InputError


def read_table(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a comma-separated file by column name, spaces trimmed, empty lines left out.

    Raises
    ------
    InputError
        The file is missing, is no text, lacks a required column, or a row lacks a value in one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV file ({error}): save it as comma-separated UTF-8.") from None
    rows = [row for row in rows if any(row.values())]
    for number, row in enumerate(rows, start=2):
        for column in required:
            if not row.get(column):
                raise InputError(
                    f"{path}, row {number}, has no value in column {column}: fill in {', '.join(required)} everywhere."
                )
    if not rows:
        raise InputError(f"{path} has no rows: it needs the columns {', '.join(required)} and a row for each frame.")
    return rows
