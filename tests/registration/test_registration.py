"""Our folder on nnU-Net's search path, in real interpreters; installing and uninstalling for real."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nnunet_fganet.registration import ENVIRONMENT_VARIABLE, TRAINER_FOLDER

PROJECT = Path(__file__).resolve().parents[2]
TRAINERS = ("nnUNetTrainerFGANet", "nnUNetTrainerFGANetPaperSchedule", "nnUNetTrainerComparator")
SHOW = f"import os; print(os.environ.get({ENVIRONMENT_VARIABLE!r}))"


def interpreter(*arguments: str, python: str | Path = sys.executable, **environment: str) -> str:
    """Run Python with nothing of this process's registration in its environment; returns what it prints."""
    clean = {name: value for name, value in os.environ.items() if name not in (ENVIRONMENT_VARIABLE, "PYTHONPATH")}
    answer = subprocess.run(
        [python, *arguments], env=clean | environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    return answer.stdout.strip()


def test_a_new_process_registers_our_folder() -> None:
    assert interpreter("-c", SHOW) == TRAINER_FOLDER
    assert (Path(TRAINER_FOLDER) / "nnunet_fganet_trainers.py").is_file()


def test_an_isolated_interpreter_registers_too() -> None:
    assert interpreter("-I", "-c", SHOW) == TRAINER_FOLDER


def test_what_the_user_has_set_is_kept_and_comes_first(tmp_path: Path) -> None:
    mine = os.pathsep.join([str(tmp_path), "~/trainers"])
    assert interpreter("-c", SHOW, **{ENVIRONMENT_VARIABLE: mine}) == os.pathsep.join([mine, TRAINER_FOLDER])


@pytest.mark.parametrize("value", ["", TRAINER_FOLDER, os.pathsep])
def test_values_without_a_folder_of_the_user_give_ours_once(value: str) -> None:
    assert interpreter("-c", SHOW, **{ENVIRONMENT_VARIABLE: value}) == TRAINER_FOLDER


def test_child_processes_do_not_add_it_again(tmp_path: Path) -> None:
    grandchild = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SHOW!r}], check=True)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)"
    value = interpreter("-c", child, **{ENVIRONMENT_VARIABLE: str(tmp_path)})
    assert value == os.pathsep.join([str(tmp_path), TRAINER_FOLDER])


def test_registering_loads_nothing_that_an_interpreter_does_not_load_anyway() -> None:
    loaded = interpreter(
        "-c", "import sys; print(*[m for m in sys.modules if m in ('pathlib', 'numpy', 'torch', 're')])"
    )
    assert loaded == ""


@pytest.mark.slow
def test_nnunet_finds_the_trainers_in_a_plain_process_and_they_can_be_pickled() -> None:
    program = f"""
import pickle
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
for name in {TRAINERS}:
    trainer = find(name)
    assert trainer is find(name), "each search gives another class"
    assert pickle.loads(pickle.dumps(trainer)) is trainer
    print("FOUND", trainer.__module__, trainer.__name__)
"""
    printed = interpreter("-W", "ignore", "-c", program)
    found = [line.split()[1:] for line in printed.splitlines() if line.startswith("FOUND")]
    assert [name for _, name in found] == list(TRAINERS)
    assert all(module.startswith("nnunet_fganet.training.") for module, _ in found)


@pytest.fixture
def throwaway(tmp_path: Path) -> Path:
    """Python of a new environment that borrows the packages of this one, but none of its registration."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    [site_packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # A folder that a .pth file names is searched, but .pth files in it are not run.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "venv" / "bin" / "python"


def pip(python: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def our_files(environment: Path) -> Iterator[Path]:
    return (path for path in environment.rglob("*") if re.search("fganet|dataset_conversion", path.name.lower()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_installing_registers_and_uninstalling_leaves_nothing(kind: str, throwaway: Path, tmp_path: Path) -> None:
    environment = throwaway.parents[1]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    if kind == "wheel":
        wheels = tmp_path / "wheels"
        pip(Path(sys.executable), "wheel", *options, "--wheel-dir", str(wheels), str(PROJECT))
        [wheel] = wheels.glob("nnunet_fganet-*.whl")
        pip(throwaway, "install", *options, str(wheel))
    else:
        pip(throwaway, "install", *options, "--editable", str(PROJECT))

    folder = interpreter("-c", SHOW, python=throwaway)
    assert Path(folder).is_relative_to(environment if kind == "wheel" else PROJECT)
    assert [path.name for path in Path(folder).glob("*.py")] == ["nnunet_fganet_trainers.py"]
    find = "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
    printed = interpreter("-W", "ignore", "-c", f"{find}print(find({TRAINERS[0]!r}))", python=throwaway)
    assert printed.endswith("<class 'nnunet_fganet.training.fganet_trainer.nnUNetTrainerFGANet'>")
    assert (environment / "bin" / "fganet").exists()

    pip(throwaway, "uninstall", "--yes", "nnunet_fganet")
    assert list(our_files(environment)) == []
    assert interpreter("-c", SHOW, python=throwaway) == "None"


def test_the_lock_file_pins_everything_that_an_installation_needs() -> None:
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    needed = closure("nnunet_fganet", extras={"test"})
    assert len(needed) > 50
    assert sorted(needed - pinned) == []


def closure(distribution: str, extras: set[str]) -> set[str]:
    """Names of all installed distributions that ``distribution`` needs here, directly or not."""
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(distribution), extra) for extra in {"", *extras}]
    while waiting:
        name, extra = current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), each) for each in {"", *requirement.extras}]
    return {name for name, _ in seen} - {canonicalize_name(distribution)}
