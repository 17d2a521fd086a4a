"""What a run folder was made for: its record, its plans, its lock, and the disk that it needs."""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnunet_fganet.comparators.configurations import OWNER_KEY, write_comparator_plans
from nnunet_fganet.errors import InputError
from nnunet_fganet.files import written_beside
from nnunet_fganet.precision import ENVIRONMENT_VARIABLE, MIXED

RECORD_FILE = "comparison.json"
_LOCK_FILE = "lock"
_MADE_BY_RUNS = ("results", "logs", "curves", "costs.json", "table.md", "table.csv", "summary.json", "report.html")
_KEPT_FREE = 1e9  # bytes, for whatever else writes


def plans_name_of(base: str, root: Path) -> str:
    """Name of the comparison's own plans: those of the data set, the run folder's name and a hash of where it is.

    So two run folders of one name have plans of their own. A folder that was moved or copied keeps the name that its
    record holds, as nnU-Net named its results by it. nnU-Net takes folder names apart at double underscores.

    Raises
    ------
    InputError
        The record of the folder is damaged.
    """
    earlier = _read(root / RECORD_FILE) or {}
    if earlier.get("base_plans") == base and "plans" in earlier:
        return earlier["plans"]
    place = root.resolve()
    name = re.sub(r"[^A-Za-z0-9-]+", "_", place.name).strip("_")
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    return "_".join(part for part in (base, name, digest) if part)


def check_record(root: Path, record: Mapping[str, Any], plans: Path, force: bool) -> None:
    """Take a run folder over, new or made by a comparison under the same terms.

    Parameters
    ----------
    root
        The folder.
    record
        Terms that all trainings of the folder share.
    plans
        The comparison's own, which :func:`check_own_plans` lets pass.
    force
        Remove trainings that were made under other terms, and the plans that they followed.

    Raises
    ------
    InputError
        The folder holds trainings under other terms.
    """
    file = root / RECORD_FILE
    earlier = _read(file)
    if earlier is not None and earlier != record:
        differing = [name for name in {**record, **earlier} if earlier.get(name) != record.get(name)]
        if not force:
            raise InputError(_refusal(root, earlier, record, differing))
        remove_trainings(root, plans)
        _remove_plans(plans.with_name(f"{earlier.get('plans')}.json"), root)
    if earlier != record:
        with written_beside(file, overwrite=True) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _refusal(root: Path, earlier: Mapping[str, Any], record: Mapping[str, Any], differing: Sequence[str]) -> str:
    """Say why trainings under other terms cannot be joined by new ones, and the way out."""
    way_out = "name another folder, or start anew in this one with --force, which removes its trainings."
    if differing == ["data"] and "data" in earlier:
        return (
            f"frames, masks or folds of {record['dataset']} have changed since the trainings in --out {root}, which "
            f"may have learned from frames that they would be measured on: {way_out}"
        )
    if differing == ["precision"] and "precision" in earlier:
        before = earlier["precision"]
        return (
            f"the trainings in --out {root} compute in {before}, and new ones would compute in {record['precision']} "
            f"here: go on with {ENVIRONMENT_VARIABLE}={'auto' if before == MIXED else before}, or {way_out}"
        )
    was = ", ".join(f"{name} {earlier.get(name)}, now {record.get(name)}" for name in differing)
    return f"--out {root} holds a comparison under other terms ({was}): {way_out}"


def _read(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{file} is damaged: restore it, or name another folder.")
    return content


def remove_trainings(root: Path, plans: Path) -> None:
    """Remove what trainings and tables wrote into a run folder, and all configurations of its own plans.

    Those of rows that the command does not choose would else be taken for a change of the plans later.
    """
    for name in _MADE_BY_RUNS:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    plans.unlink(missing_ok=True)


def _remove_plans(file: Path, root: Path) -> None:
    """Remove plans that were written for the run folder ``root``."""
    plans = _read(file) or {}
    if plans.get(OWNER_KEY) == str(root.resolve()):
        file.unlink()


def check_own_plans(target: Path, root: Path, force: bool) -> None:
    """Check that ``target`` may hold the plans of a run folder, before anything is removed.

    Raises
    ------
    InputError
        ``target`` was not written for a comparison, or is to be replaced and belongs to another run folder.
    """
    plans = _read(target)
    if plans is None:
        return
    if OWNER_KEY not in plans:
        raise InputError(
            f"{target} was not written for a comparison, and is not replaced: name another folder for --out."
        )
    if force and _is_of_another(plans, root):
        raise InputError(
            f"{target} also serves the run folder {plans[OWNER_KEY]}, which --force would ruin: leave --force out, or "
            "name another folder for --out."
        )


def _is_of_another(plans: Mapping[str, Any], root: Path) -> bool:
    """Whether the run folder that plans were written for is another one, and still there (not moved to ``root``)."""
    owner = Path(plans[OWNER_KEY])
    return owner != root.resolve() and (owner / RECORD_FILE).is_file()


def keep_plans(base: Path, target: Path, configurations: Mapping[str, Any], root: Path, force: bool) -> None:
    """Write the comparison's plans beside those of the data set; those that are there have to be the same.

    ``target`` is one that :func:`check_own_plans` lets pass.

    Raises
    ------
    InputError
        ``target`` holds other plans, so that its trainings could not be compared with new ones.
    """
    earlier = _read(target)
    owner = earlier[OWNER_KEY] if earlier is not None and _is_of_another(earlier, root) else str(root.resolve())
    if owner == str(root.resolve()) and not (root / "results").exists():  # plans of a folder that was removed
        target.unlink(missing_ok=True)
    try:
        write_comparator_plans(base, target, configurations, owner=owner)
    except InputError:
        if not force:
            raise InputError(
                f"{target} holds other plans, as the data set was planned anew since: name another folder for --out, "
                f"or start anew with --force, which removes the trainings in {root}."
            ) from None
        remove_trainings(root, target)
        write_comparator_plans(base, target, configurations, owner=owner)


@contextmanager
def locked(root: Path) -> Iterator[int]:
    """Hold a run folder: yields an open file that a training shares, so that it holds the folder as long as it lives.

    Raises
    ------
    InputError
        The folder holds something else; or another command, or a training that outlived it, works in it.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"--out {root} is a file: name a folder.")
    root.mkdir(parents=True, exist_ok=True)
    half_written = f".{RECORD_FILE}."  # by a command that was killed
    names = {path.name for path in root.iterdir() if not path.name.startswith(half_written)}
    if names - {_LOCK_FILE} and RECORD_FILE not in names:
        raise InputError(f"--out {root} is no run folder (it has no {RECORD_FILE}): name a new or an empty folder.")
    with (root / _LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(_who_holds(root)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _who_holds(root: Path) -> str:
    """Say who holds a run folder, and the way out: workers of a killed training would hold it for ever."""
    holders = _processes_that_hold(root / _LOCK_FILE)
    groups = set(holders.values())
    command = (root / _LOCK_FILE).read_text(errors="replace")
    # The command itself may be in a group whose first process, a script, has ended.
    if command not in map(str, holders) and groups and all(_has_ended(group) for group in groups):
        named = " ".join(f"-{group}" for group in sorted(groups))
        return f"workers that a killed training left behind still hold {root}: end them with kill -- {named}."
    return f"another command, or a training that it started, still works in {root}: wait for its end."


def _processes_that_hold(file: Path) -> dict[int, int]:
    """Other processes that have a file open, with their groups; none where the system does not tell (Linux does)."""
    groups = {}
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process has ended meanwhile, or is of another user
            process = int(opened.parts[2])
            if opened.readlink() == file.resolve() and process != os.getpid():
                groups[process] = os.getpgid(process)
    return groups


def _has_ended(process: int) -> bool:
    """Whether a process, by Linux's ``/proc``, is not there any more, or only its exit code is (a zombie)."""
    try:
        return not Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return True


def check_disk(root: Path, bytes_needed: float) -> None:
    """Raise InputError where the disk cannot hold what the trainings will write."""
    free = shutil.disk_usage(root).free
    if free < bytes_needed + _KEPT_FREE:
        raise InputError(
            f"--out {root} has {free / 1e9:.1f} GB free, and the trainings that are left write about "
            f"{bytes_needed / 1e9:.1f} GB: free some space, or name a folder on another disk."
        )
