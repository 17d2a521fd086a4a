"""The demo's bookkeeping with real commands: what is done, what goes on, what starts anew."""

import os
import sys
from pathlib import Path

import pytest

from nnunet_fganet.demo.__main__ import main
from nnunet_fganet.demo.steps import Step, run_steps
from nnunet_fganet.errors import InputError

# Writes the arguments it was called with, one call a line, into the folder that is its first argument.
RECORDER = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
with (folder / "calls").open("a") as file:
    print(*sys.argv[2:], file=file)
print("first line")
print("second line")
sys.exit(3 if "fail" in sys.argv else 0)
"""


def recorder(folder: Path, name: str, *arguments: str, **options: object) -> Step:
    command = [sys.executable, "-c", RECORDER, str(folder / name), *arguments]
    return Step(name, f"Run {name}", command, folder / name, watch=lambda line: None, **options)


def calls(folder: Path, name: str) -> list[str]:
    return (folder / name / "calls").read_text().splitlines()


def run(folder: Path, *steps: Step) -> None:
    run_steps(steps, folder, os.environ)


def test_a_second_run_does_nothing_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [recorder(tmp_path, "one"), recorder(tmp_path, "two", "x")]
    run(tmp_path, *steps)
    run(tmp_path, *steps)
    assert calls(tmp_path, "one") == [""]
    assert calls(tmp_path, "two") == ["x"]
    assert capsys.readouterr().out.count("done before") == 2


def test_another_command_starts_this_step_and_all_later_ones_anew(tmp_path: Path) -> None:
    run(tmp_path, recorder(tmp_path, "one"), recorder(tmp_path, "two"), recorder(tmp_path, "three"))
    (tmp_path / "three" / "left").touch()
    run(tmp_path, recorder(tmp_path, "one"), recorder(tmp_path, "two", "changed"), recorder(tmp_path, "three"))
    assert calls(tmp_path, "one") == [""]
    assert calls(tmp_path, "two") == ["changed"]  # its old result was removed
    assert not (tmp_path / "three" / "left").exists()


def test_a_step_whose_result_is_gone_runs_again(tmp_path: Path) -> None:
    run(tmp_path, recorder(tmp_path, "one"))
    (tmp_path / "one" / "calls").unlink()
    (tmp_path / "one").rmdir()
    run(tmp_path, recorder(tmp_path, "one"))
    assert calls(tmp_path, "one") == [""]


@pytest.mark.parametrize(("resume", "expected"), [(("--c",), ["fail", "fail --c"]), ((), ["fail"])])
def test_an_unfinished_step_goes_on_where_it_can_and_starts_anew_where_not(
    resume: tuple[str, ...], expected: list[str], tmp_path: Path
) -> None:
    step = recorder(tmp_path, "train", "fail", resume=resume)
    for _ in range(2):
        with pytest.raises(InputError):
            run(tmp_path, step)
    assert calls(tmp_path, "train") == expected


def test_a_step_before_it_that_ran_anew_forbids_going_on(tmp_path: Path) -> None:
    train = recorder(tmp_path, "train", "fail", resume=("--c",))
    with pytest.raises(InputError):
        run(tmp_path, recorder(tmp_path, "plan"), train)
    with pytest.raises(InputError):
        run(tmp_path, recorder(tmp_path, "plan", "other"), train)
    assert calls(tmp_path, "train") == ["fail"]


def test_what_follows_a_resumed_step_runs_anew(tmp_path: Path) -> None:
    steps = [recorder(tmp_path, "train", resume=("--c",)), recorder(tmp_path, "predict")]
    run(tmp_path, *steps)
    record = tmp_path / "steps" / "train.json"
    record.write_text(record.read_text().replace("done", "started"))  # as an interrupted training leaves it
    (tmp_path / "predict" / "masks_of_the_old_network").touch()
    run(tmp_path, *steps)
    assert calls(tmp_path, "train") == ["", "--c"]
    assert not (tmp_path / "predict" / "masks_of_the_old_network").exists()


def test_a_failure_names_the_log_and_shows_its_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step 'one' of the demo failed with exit code 3.*one\.log") as error:
        run(tmp_path, recorder(tmp_path, "one", "fail"))
    assert "second line" in str(error.value)
    assert (tmp_path / "logs" / "one.log").read_text() == "first line\nsecond line\n"


def test_a_record_that_was_cut_off_counts_as_none(tmp_path: Path) -> None:
    run(tmp_path, recorder(tmp_path, "one"))
    record = tmp_path / "steps" / "one.json"
    record.write_text(record.read_text()[:20])
    (tmp_path / "one" / "left").touch()
    run(tmp_path, recorder(tmp_path, "one"))
    assert not (tmp_path / "one" / "left").exists()


def test_lines_that_the_watcher_returns_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", "print('quiet'); print('loud')"]
    watch = {"quiet": None, "loud": "LOUD"}.get
    run(tmp_path, Step("one", "Run one", command, tmp_path, watch=watch))
    printed = capsys.readouterr().out
    assert "LOUD" in printed
    assert "quiet\n" not in printed


def test_an_error_of_the_system_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").touch()
    assert main(tmp_path / "demo") == 2
    assert capsys.readouterr().err == f"demo: {tmp_path / 'demo' / 'nnUNet_raw'}: Not a directory.\n"
