"""JSON files that a killed process may have left cut off."""

import json
from pathlib import Path
from typing import Any

from nnunet_fganet.errors import InputError


def read_json(file: Path, way_out: str) -> Any:
    """Content of an existing file.

    Parameters
    ----------
    file
        The file.
    way_out
        What the user may do where it is no JSON, as the end of a sentence.

    Raises
    ------
    InputError
        It is no JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is no readable JSON file ({error}): {way_out}.") from None
