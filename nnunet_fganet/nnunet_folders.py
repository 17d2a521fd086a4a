"""Values of nnU-Net's folder variables, which nnU-Net takes as they are."""

import os
from pathlib import Path

from nnunet_fganet.errors import InputError


def why_misread(value: str) -> str | None:
    """Why a value names another folder than the one that was meant; None where it does not."""
    if value != value.strip() or value[0] in "'\"":
        return f"{value!r} has blanks or quotes around it"
    if value.startswith("~") or "$" in value:
        return f"{value}: '~' and '$' are not expanded by nnU-Net"
    if not Path(value).is_absolute():
        return f"{value} means another folder wherever you are"
    return None


def check_folder_variable(variable: str) -> None:
    """Raise InputError where a variable is set to what would be misread: a folder would be made in a wrong place."""
    value = os.environ.get(variable)
    if value and (reason := why_misread(value)):
        raise InputError(f"{variable} is wrong, {reason}: fganet doctor shows the command that sets it.")
