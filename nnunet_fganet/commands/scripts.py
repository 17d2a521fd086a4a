"""Commands that pip installs: where they are, and which Python they start."""

import sys
import sysconfig
from pathlib import Path

from nnunet_fganet.errors import InputError

_LONGEST_LINE = 4096


def script_folders() -> list[Path]:
    """Where pip puts commands of this Python: beside it, and where the system or ``pip --user`` has them."""
    user = sysconfig.get_preferred_scheme("user")
    places = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", scheme=user)]
    return [folder.resolve() for folder in (Path(sys.executable).parent, *map(Path, places))]


def find_script(name: str) -> Path:
    """Find a command that pip installed for this Python.

    Raises
    ------
    InputError
        There is none of that name.
    """
    for folder in script_folders():
        script = folder / name
        if script.is_file():
            return script
    raise InputError(f"{name} is not among the commands of {sys.executable}: install it there (see fganet doctor).")


def interpreter_of(script: Path) -> Path | None:
    """The Python that a script names in its first line; None for programs of another kind, such as pyenv's shims."""
    with script.open("rb") as file:
        first = file.readline(_LONGEST_LINE).decode(errors="replace").strip()
    named = Path(first.removeprefix("#!").strip())
    is_python = first.startswith("#!") and named.name.startswith("python")
    return named if is_python else None
