"""Each thing that can be wrong is made wrong for real; where the way out is a shell command, it is run."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nnunet_fganet.cli import doctor
from nnunet_fganet.cli.doctor import Finding, State
from nnunet_fganet.registration import ENVIRONMENT_VARIABLE, TRAINER_FOLDER

PROJECT = Path(__file__).resolve().parents[2]


def good_environment(folder: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != ENVIRONMENT_VARIABLE}
    for variable in doctor.FOLDERS:
        (folder / variable).mkdir()
        environment[variable] = str(folder / variable)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    return environment


def run_doctor(environment: dict[str, str], python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "nnunet_fganet.cli.main", "doctor"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_sound_installation_passes(tmp_path: Path) -> None:
    answer = run_doctor(good_environment(tmp_path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stderr == ""
    assert "WRONG" not in answer.stdout
    for expected in ("nnunetv2: 2.8.", "torch: 2.", "(ours)", *doctor.TRAINERS, *doctor.FOLDERS, "CPU: "):
        assert expected in answer.stdout


@pytest.mark.slow
def test_everything_wrong_is_named_with_its_mend_and_ends_with_code_2(tmp_path: Path) -> None:
    environment = good_environment(tmp_path)
    del environment["nnUNet_raw"]
    environment |= {"nnUNet_results": "~/results", "FGANET_PRECISION": "float8", ENVIRONMENT_VARIABLE: "~/trainers"}
    answer = run_doctor(environment)
    assert answer.returncode == 2
    wrong = [line.split()[1].rstrip(":") for line in answer.stdout.splitlines() if "WRONG" in line]
    assert wrong == [ENVIRONMENT_VARIABLE, "nnUNet_raw", "nnUNet_results", "FGANET_PRECISION"]
    assert answer.stdout.count("WRONG") == answer.stdout.count("mend: ")  # PATH is right, a GPU needs no mend
    assert answer.stderr.startswith("fganet: 4 of ")
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.slow
def test_an_environment_that_does_not_register_is_found(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    [site_packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site_packages / "borrowed.pth").write_text(f"{PROJECT}\n{sysconfig.get_path('purelib')}\n")
    answer = run_doctor(good_environment(tmp_path), tmp_path / "venv" / "bin" / "python")
    assert answer.returncode == 2
    assert "WRONG new processes: do not register by themselves" in answer.stdout
    assert f"export {ENVIRONMENT_VARIABLE}={TRAINER_FOLDER}" in answer.stdout
    assert all(f"WRONG {trainer}" in answer.stdout for trainer in doctor.TRAINERS)


# Values of a variable that are wrong ({} is an existing folder), and what must be said about each.
WRONG_FOLDERS = {
    None: "not set",
    "": "not set",
    "~/raw": "not expanded",
    "$HOME/raw": "not expanded",
    "raw": "wherever you are",
    "{}/two words": "does not exist",
    "{}/file": "is a file",
    "'{}/raw'": "quotes",
    "{}/raw ": "blanks",
}


@pytest.mark.parametrize("value", WRONG_FOLDERS)
def test_a_wrong_folder_is_named_and_its_mend_works_in_a_shell(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").touch()
    finding = doctor.check_folder("nnUNet_raw", value and value.format(tmp_path))
    assert finding.state is State.WRONG
    assert WRONG_FOLDERS[value] in finding.found
    mended = subprocess.run(
        ["bash", "-c", f'{finding.mend} && printf %s "$nnUNet_raw"'], capture_output=True, text=True, check=True
    )
    assert doctor.check_folder("nnUNet_raw", mended.stdout).state is State.OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    finding = doctor.check_folder("nnUNet_raw", str(tmp_path))
    tmp_path.chmod(0o700)
    assert finding.state is State.WRONG
    assert "cannot be written to" in finding.found


def test_two_variables_for_one_folder_are_wrong(tmp_path: Path) -> None:
    environment = good_environment(tmp_path)
    environment["nnUNet_results"] = environment["nnUNet_raw"]
    assert states(list(doctor.check_folders(environment))) == [State.OK] * 3 + [State.WRONG]


def states(findings: list[Finding]) -> list[State]:
    return [finding.state for finding in findings]


def test_trainer_folders_of_the_user_stand_beside_ours(tmp_path: Path) -> None:
    value = os.pathsep.join([str(tmp_path), TRAINER_FOLDER])
    assert states(list(doctor.check_trainer_folders(value))) == [State.OK, State.OK]


@pytest.mark.parametrize("value", ["", os.curdir])
def test_a_value_without_our_folder_is_wrong_and_its_mend_extends_it(value: str) -> None:
    findings = list(doctor.check_trainer_folders(value))
    assert findings[0].state is State.WRONG
    mended = subprocess.run(
        ["bash", "-c", f'{findings[0].mend} && printf %s "${ENVIRONMENT_VARIABLE}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert mended.stdout.split(os.pathsep) == [folder for folder in (value, TRAINER_FOLDER) if folder]


def test_a_trainer_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    value = os.pathsep.join([str(tmp_path / "gone"), TRAINER_FOLDER])
    findings = list(doctor.check_trainer_folders(value))
    assert states(findings) == [State.WRONG, State.OK]
    assert "gone: no such folder" in findings[0].found


def test_a_trainer_folder_of_the_user_that_fails_to_import_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_trainers.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, os.pathsep.join([str(tmp_path), TRAINER_FOLDER]))
    finding = doctor.check_trainer("nnUNetTrainerFGANet")
    assert finding.state is State.WRONG
    assert "a_package_that_nobody_has" in finding.found
    assert "pip install a_package_that_nobody_has" in finding.mend


def test_a_trainer_of_the_same_name_that_comes_first_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
    (tmp_path / "copied_trainers.py").write_text(f"{base}class nnUNetTrainerFGANet(nnUNetTrainer): pass\n")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, os.pathsep.join([str(tmp_path), TRAINER_FOLDER]))
    finding = doctor.check_trainer("nnUNetTrainerFGANet")
    assert finding.state is State.WRONG
    assert "copied_trainers" in finding.found


def test_versions_are_compared_with_what_the_package_asks_for() -> None:
    assert doctor.check_version("nnunetv2", Requirement("nnunetv2>=2.8.1,<2.9")).state is State.OK
    too_new = doctor.check_version("nnunetv2", Requirement("nnunetv2<2"))
    assert too_new.state is State.WRONG
    assert too_new.mend.endswith("-m pip install 'nnunetv2<2'")
    assert doctor.check_version("nobody-wrote-this", Requirement("nobody-wrote-this")).found == "not installed"


def write_command(folder: Path, first_line: str) -> Path:
    command = folder / "nnUNetv2_train"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"{first_line}\n")
    command.chmod(0o755)
    return command


@pytest.mark.parametrize(
    ("first_line", "state"),
    [
        (f"#!{sys.executable}", State.OK),  # a folder of links to the commands of several environments
        ("#!/bin/sh", State.NOTE),  # pyenv's shims
        ("#!/usr/bin/env python3", State.NOTE),
        ("#!/opt/other/bin/python3", State.WRONG),
    ],
)
def test_a_command_elsewhere_is_wrong_only_where_it_names_another_python(
    first_line: str, state: State, tmp_path: Path
) -> None:
    write_command(tmp_path, first_line)
    assert doctor.check_command(str(tmp_path)).state is state


@pytest.mark.parametrize("scheme", ["default", "user"])
def test_commands_where_pip_puts_them_are_ours(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system's Python in /usr/bin has its commands in /usr/local/bin; ``pip --user`` puts them in the user's home."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for name in ("base", "userbase"):  # what the folders of the two schemes lie in
        monkeypatch.setitem(sysconfig.get_config_vars(), name, str(tmp_path / name))
    chosen = sysconfig.get_preferred_scheme("user") if scheme == "user" else sysconfig.get_default_scheme()
    folder = Path(sysconfig.get_path("scripts", scheme=chosen))
    assert folder.is_relative_to(tmp_path)
    folder.mkdir(parents=True)
    write_command(folder, "#!/bin/sh")
    assert doctor.check_command(str(folder)).state is State.OK


def test_an_environment_is_activated_only_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sysconfig, "get_path", lambda *_, **__: str(tmp_path))
    write_command(tmp_path, "#!/bin/sh")
    assert doctor.check_command("").mend.startswith(f'export PATH={tmp_path}:"$PATH"')
    (tmp_path / "activate").touch()
    assert doctor.check_command("").mend.startswith(f"source {tmp_path}/activate")


def test_the_nnunet_command_of_another_environment_is_wrong(tmp_path: Path) -> None:
    ours = str(Path(sys.executable).parent)
    write_command(tmp_path, "#!/opt/other/bin/python3")
    assert doctor.check_command(os.pathsep.join([str(tmp_path), ours])).state is State.WRONG
    assert doctor.check_command(os.pathsep.join([ours, str(tmp_path)])).state is State.OK
    assert doctor.check_command(str(tmp_path / "empty")).state is State.NOTE


@pytest.mark.parametrize(("value", "state"), [(None, State.OK), ("bfloat16", State.OK), ("float8", State.WRONG)])
def test_precision(value: str | None, state: State) -> None:
    assert doctor.check_precision(value).state is state


def test_the_compiled_deformable_convolution_is_tried() -> None:
    assert doctor.check_deformable_convolution().state is State.OK
