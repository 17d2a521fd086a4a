"""Paths that files of the user name."""

import os
from pathlib import Path


def resolve_inside(source: Path, base: Path, name: str) -> Path | None:
    """``name`` (relative to ``base``, slashes of either kind) as a path below ``source``; None if it is not.

    Links are not followed: a data set made of links to files elsewhere is the user's own choice.
    """
    named = os.path.normpath(base.absolute() / name.replace("\\", "/"))
    root = os.path.normpath(source.absolute())
    if not Path(named).is_relative_to(root):
        return None
    return source / os.path.relpath(named, root)
