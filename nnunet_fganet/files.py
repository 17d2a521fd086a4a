"""Write beside, then rename: a result is there as a whole or not at all, and takes nothing with it."""

import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nnunet_fganet.errors import InputError


def check_replaceable(
    target: Path,
    force: bool,
    is_ours: Callable[[Path], bool],
    what: str,
    sources: Iterable[Path] = (),
    elsewhere: str = "name another place",
) -> None:
    """Raise unless a folder may be written to ``target`` without taking anything from the user.

    A missing or an empty folder may always be written; one that an earlier run made, with ``--force``. A mistyped
    folder is never deleted, nor one that holds what is to be read.

    Parameters
    ----------
    target
        Folder that shall be made.
    force
        The user asked to replace an earlier result.
    is_ours
        Whether a folder that has content is an earlier result.
    what
        An earlier result in words, for the message, and what tells it.
    sources
        Files and folders that are read.
    elsewhere
        How to have the folder made somewhere else, for the message.

    Raises
    ------
    InputError
        ``target`` may not be written.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file: name a folder to write to.")
    if not any(target.iterdir()):
        return
    check_outside(target, sources)
    if not is_ours(target):
        raise InputError(f"{target} is no {what}, and is not replaced: choose another place, or move it away.")
    if not force:
        raise InputError(f"{target} exists already: {elsewhere}, or replace it with --force.")


def check_outside(target: Path, sources: Iterable[Path]) -> None:
    """Raise InputError where one of ``sources`` is, or lies in, the folder ``target`` that is to be replaced."""
    if not target.exists():
        return
    folder = target.resolve()
    for source in sources:
        if source.resolve().is_relative_to(folder):
            raise InputError(f"{target} holds {source}, which is read: choose another place for the result.")


@contextmanager
def written_beside(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to, and rename it to ``target`` on success.

    The yielded path does not exist yet; the body makes it, as a file or as a folder. If the body
    raises (Ctrl-C and a full disk included) what it wrote is removed and ``target`` is untouched.

    Parameters
    ----------
    target
        The file or folder that shall exist afterwards (where it is a link, what the link leads to). Its parent is
        made where it is missing.
    overwrite
        Replace an existing ``target``; its old content stays until the new one is complete.

    Raises
    ------
    InputError
        ``target`` exists and ``overwrite`` is false, it was made or changed while the body ran, it is the current
        folder or one above, or neither a file nor a folder.
    """
    resolved = target.resolve()
    if Path.cwd().is_relative_to(resolved):
        raise InputError(f"{target} is the current folder or one above, which cannot be replaced: name another.")
    _check_regular(resolved)
    resolved.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(resolved)
    if resolved.exists() and not overwrite:
        raise InputError(f"{target} exists already: name another place, or replace it with --force.")
    target = resolved
    before = _identity(target)
    partial = target.with_name(f"{_prefix(target, 'partial')}{os.getpid()}")
    old = target.with_name(f"{_prefix(target, 'replaced')}{os.getpid()}")
    try:
        yield partial
        if _identity(target) != before:
            raise InputError(f"{target} was made or changed meanwhile, and is not replaced: run the command again.")
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


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What tells a file or folder from another of its name, and from itself with other content; None: it is missing."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _prefix(target: Path, what: str) -> str:
    """Begin the name of a file that is there while ``target`` is written; the number of the process follows.

    The host is named because a process number says nothing about other hosts of a shared file system.
    """
    return f".{target.name}.{what}-{platform.node()}-"


def _remove_leftovers(target: Path) -> None:
    """Mend what a killed process of this host left beside ``target``: a replaced folder returns, partial ones go."""
    for old in _leftovers(target, "replaced"):
        _remove(old) if target.exists() else old.rename(target)
    for partial in _leftovers(target, "partial"):
        _remove(partial)


def _leftovers(target: Path, what: str) -> list[Path]:
    """Files and folders of processes of this host that have ended.

    Those of our own number are leftovers too, of an earlier process (in a container each may be number 1).
    """
    prefix = _prefix(target, what)
    numbers = {path: path.name.removeprefix(prefix) for path in target.parent.iterdir() if path.name.startswith(prefix)}
    return [
        path
        for path, number in numbers.items()
        if number.isdecimal() and (int(number) == os.getpid() or not _is_alive(int(number)))
    ]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_new_file(path: Path, force: bool) -> None:
    """Raise unless a file may be written to ``path``; called before the work whose result it shall hold.

    Raises
    ------
    InputError
        ``path`` is a folder or a device, which are never replaced, or exists and ``force`` is false; or nothing can be
        written to its folder, or to the nearest one above it that is there.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file to write.")
    _check_regular(path)
    if path.exists() and not force:
        raise InputError(f"{path} exists already: name another file, or replace it with --force.")
    folder = next(parent for parent in path.resolve().parents if parent.exists())
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise InputError(f"{path}: nothing can be written to the folder {folder}.")


def _check_regular(path: Path) -> None:
    """Raise InputError for what no result may replace: a device (``/dev/null``), a pipe, a socket."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is a device or a pipe, which is never replaced: name a file to write.")


def is_text(name: str) -> bool:
    """Whether a name can be written to files and terminals; names of other encodings come from other systems."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_not_read(outputs: Iterable[Path | None], sources: Iterable[Path]) -> None:
    """Raise InputError where a file that is to be written is one of ``sources``, which are read."""
    read = {source.resolve() for source in sources}
    for path in outputs:
        if path is not None and path.resolve() in read:
            raise InputError(f"{path} is read: name another file for the result.")


def check_new_files(outputs: Mapping[str, Path | None], force: bool) -> None:
    """Check all files that a command may write, by the option that names each (None where it is left out).

    Raises
    ------
    InputError
        One may not be written (see :func:`check_new_file`), its folder is missing, or two are one file.
    """
    options: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        try:
            earlier = options.setdefault(path.resolve(), option)
        except RuntimeError:  # of Python before 3.13
            raise InputError(f"{path} is a link that leads to itself: name another file.") from None
        if earlier != option:
            raise InputError(f"{earlier} and {option} both name {path}: name two files.")
        check_new_file(path, force)
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}.")
