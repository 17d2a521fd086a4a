"""Write beside, then rename: a result is there as a whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_fganet.errors import InputError


@contextmanager
def written_beside(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to, and rename it to ``target`` on success.

    The yielded path does not exist yet; the body makes it, as a file or as a folder. If the body
    raises (Ctrl-C and a full disk included) what it wrote is removed and ``target`` is untouched.

    Parameters
    ----------
    target
        The file or folder that shall exist afterwards. Its parent is made where it is missing.
    overwrite
        Replace an existing ``target``; its old content stays until the new one is complete.

    Raises
    ------
    InputError
        ``target`` exists and ``overwrite`` is false.
    """
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already: choose another place, or replace it with --force.")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    old = target.with_name(f".{target.name}.replaced-{os.getpid()}")
    try:
        yield partial
        if target.is_dir():  # a folder cannot be renamed over a folder that has content
            target.rename(old)
        partial.replace(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        _remove(partial)
        _remove(old)


def _remove_leftovers(target: Path) -> None:
    """Mend what a killed process left beside ``target``: a replaced folder returns, partial ones go."""
    for old in target.parent.glob(f".{target.name}.replaced-*"):
        if not _is_alive(old):
            _remove(old) if target.exists() else old.rename(target)
    for partial in target.parent.glob(f".{target.name}.partial-*"):
        if not _is_alive(partial):
            _remove(partial)


def _is_alive(path: Path) -> bool:
    """Whether the process whose number ends the name of ``path`` still runs."""
    try:
        os.kill(int(path.name.rpartition("-")[2]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
