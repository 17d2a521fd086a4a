"""Commands that pip installs: where they are, and which Python they start."""

import sys
import sysconfig
from pathlib import Path

_LONGEST_LINE = 4096


def script_folders() -> list[Path]:
    """Where pip puts commands of this Python: beside it, and where the system or ``pip --user`` has them."""
    user = sysconfig.get_preferred_scheme("user")
    places = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", scheme=user)]
    return [folder.resolve() for folder in (Path(sys.executable).parent, *map(Path, places))]


def interpreter_of(script: Path) -> Path | None:
    """The Python that a script names in its first line; None for programs of another kind, such as pyenv's shims."""
    with script.open("rb") as file:
        first = file.readline(_LONGEST_LINE).decode(errors="replace").strip()
    named = Path(first.removeprefix("#!").strip())
    is_python = first.startswith("#!") and named.name.startswith("python")
    return named if is_python else None
