"""Results are there as a whole or not at all, and take nothing with them."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_fganet.errors import InputError
from nnunet_fganet.files import check_new_file, check_new_files, check_replaceable, written_beside


def write(target: Path, text: str = "new", overwrite: bool = False) -> None:
    with written_beside(target, overwrite) as folder:
        folder.mkdir()
        (folder / "result.txt").write_text(text)


def leave(target: Path, what: str, process: int, host: str = platform.node()) -> Path:
    """A folder as a process leaves it that is killed while it writes ``target``."""
    folder = target.with_name(f".{target.name}.{what}-{host}-{process}")
    folder.mkdir()
    (folder / "result.txt").write_text("left")
    return folder


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("process", [os.getpid, ended_process])
def test_what_ended_processes_of_this_host_left_goes(tmp_path: Path, process: Callable[[], int]) -> None:
    """In a container each process may have the number 1: what our own number left is of an earlier one."""
    target = tmp_path / "out"
    leave(target, "partial", process())
    leave(target, "replaced", process())
    with written_beside(target, overwrite=True) as folder:
        assert (target / "result.txt").read_text() == "left"  # what was to be replaced is back
        folder.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not any(target.iterdir())


def test_what_living_processes_and_other_hosts_write_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    others = [
        leave(target, "partial", os.getppid()),
        leave(target, "partial", ended_process(), host="other-host"),
        leave(target, "replaced", os.getpid(), host="other-host"),
        leave(target, "partial", ended_process(), host=f"{platform.node()}-2"),
    ]
    write(target)
    assert all((path / "result.txt").is_file() for path in others)
    assert (target / "result.txt").read_text() == "new"


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    leave(tmp_path / "run [1]", "partial", os.getpid())
    write(tmp_path / "run [1]")
    assert [path.name for path in tmp_path.iterdir()] == ["run [1]"]


def test_the_current_folder_and_those_above_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for name in (".", "..", "../b", str(tmp_path), "/"):
        with pytest.raises(InputError, match="is the current folder or one above"):
            write(Path(name), overwrite=True)
    write(Path("../c/../d"))
    assert (tmp_path / "a" / "d" / "result.txt").is_file()


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "out", "old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    write(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "out" / "result.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "link", "out", "result.txt"]


def test_a_body_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(KeyboardInterrupt), written_beside(tmp_path / "out", overwrite=True) as folder:
        folder.mkdir()
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "result.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_appears_meanwhile_stays(tmp_path: Path, kind: str, overwrite: bool) -> None:
    target = tmp_path / "out"
    with pytest.raises(InputError, match="made or changed meanwhile"), written_beside(target, overwrite) as partial:
        for path in (partial, target):
            if kind == "folder":
                path.mkdir()
            else:
                path.write_text(path.name)
        kept = target.stat().st_ino
    assert [path.stat().st_ino for path in tmp_path.iterdir()] == [kept]


def test_what_is_changed_meanwhile_stays(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with (
        pytest.raises(InputError, match="made or changed meanwhile"),
        written_beside(tmp_path / "out", True) as partial,
    ):
        partial.mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["result.txt", "thesis.txt"]


def test_a_replaced_folder_that_returns_is_replaced_only_where_the_user_says_so(tmp_path: Path) -> None:
    leave(tmp_path / "out", "replaced", ended_process())
    with pytest.raises(InputError, match=r"out exists already.*--force"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "result.txt").read_text() == "left"


def has_result(folder: Path) -> bool:
    return (folder / "result.txt").is_file()


def check(target: Path, force: bool, *sources: Path) -> None:
    check_replaceable(target, force, has_result, "earlier result (no result.txt)", sources)


def test_only_empty_folders_and_earlier_results_may_be_replaced(tmp_path: Path) -> None:
    check(tmp_path / "missing", force=False)
    (tmp_path / "empty").mkdir()
    check(tmp_path / "empty", force=False)
    write(tmp_path / "ours")
    check(tmp_path / "ours", force=True)
    with pytest.raises(InputError, match=r"ours exists already.*--force"):
        check(tmp_path / "ours", force=False)
    (tmp_path / "home" / "thesis").mkdir(parents=True)
    for force in (False, True):
        with pytest.raises(InputError, match=r"home is no earlier result \(no result\.txt\)"):
            check(tmp_path / "home", force)
    with pytest.raises(InputError, match=r"result\.txt is a file"):
        check(tmp_path / "ours" / "result.txt", force=True)


def test_what_is_read_may_not_lie_in_what_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ours")
    (tmp_path / "ours" / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ours" / "in")
    monkeypatch.chdir(tmp_path)
    for source in (Path("ours"), tmp_path / "ours" / "in", Path("link"), tmp_path / "ours" / "result.txt"):
        with pytest.raises(InputError, match="which is read"):
            check(tmp_path / "ours", True, source)
    check(tmp_path / "ours", True, tmp_path, tmp_path / "ours2")


def test_a_pipe_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="never replaced"), written_beside(pipe, overwrite=True) as partial:
        partial.write_text("new")
    with pytest.raises(InputError, match="never replaced"):
        check_new_file(pipe, force=True)
    assert pipe.is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_said_beforehand(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="nothing can be written"):
        check_new_files({"--csv": tmp_path / "rows.csv"}, force=False)
