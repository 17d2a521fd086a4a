"""A run folder remembers its terms, is held by one command at a time, and is never taken from anybody else."""

import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from comparator_plans import PLANS, REGION

from nnunet_fganet.comparison.entries import compared_entries, configurations_of, with_budget
from nnunet_fganet.comparison.record import (
    check_disk,
    check_own_plans,
    check_record,
    keep_plans,
    locked,
    plans_name_of,
)
from nnunet_fganet.errors import InputError
from nnunet_fganet.precision import MIXED

OWN_PLANS = "own_plans.json"
TERMS = {"kind": "compare", "epochs": 5, "patch": [64, 64]}


def checkpoint(root: Path) -> Path:
    """A training that a run folder holds."""
    file = root / "results" / "checkpoint_final.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_the_same_terms_go_on_and_others_are_named(tmp_path: Path) -> None:
    check_record(tmp_path, TERMS, tmp_path / OWN_PLANS, force=False)
    trained = checkpoint(tmp_path)
    check_record(tmp_path, TERMS, tmp_path / OWN_PLANS, force=False)
    with pytest.raises(InputError, match=r"other terms \(epochs 5, now 6\).*--force"):
        check_record(tmp_path, TERMS | {"epochs": 6}, tmp_path / OWN_PLANS, force=False)
    assert trained.exists()


def test_force_starts_anew_under_other_terms_only(tmp_path: Path) -> None:
    check_record(tmp_path, TERMS, tmp_path / OWN_PLANS, force=False)
    trained, own = checkpoint(tmp_path), tmp_path / "my_notes.txt"
    own.touch()
    check_record(tmp_path, TERMS, tmp_path / OWN_PLANS, force=True)
    assert trained.exists()
    check_record(tmp_path, TERMS | {"epochs": 6}, tmp_path / OWN_PLANS, force=True)
    assert not trained.exists()
    assert own.exists()
    assert json.loads((tmp_path / "comparison.json").read_text())["epochs"] == 6


def test_changed_data_is_said_to_be_that(tmp_path: Path) -> None:
    terms = TERMS | {"dataset": "Dataset501_TCGSeg", "data": "0123"}
    check_record(tmp_path, terms, tmp_path / OWN_PLANS, force=False)
    said = f"frames, masks or folds of Dataset501_TCGSeg have changed since the trainings in --out {tmp_path}.*--force"
    with pytest.raises(InputError, match=said):
        check_record(tmp_path, terms | {"data": "4567"}, tmp_path / OWN_PLANS, force=False)


@pytest.mark.parametrize(
    ("before", "now", "way_out"),
    [("bfloat16", "float32", "bfloat16"), ("float32", "bfloat16", "float32"), (MIXED, "bfloat16", "auto")],
)
def test_another_precision_says_how_to_go_on(tmp_path: Path, before: str, now: str, way_out: str) -> None:
    check_record(tmp_path, TERMS | {"precision": before}, tmp_path / OWN_PLANS, force=False)
    said = re.escape(f"compute in {before}, and new ones would compute in {now} here: go on with FGANET_PRECISION=")
    with pytest.raises(InputError, match=said + f"{way_out}, or name another folder"):
        check_record(tmp_path, TERMS | {"precision": now}, tmp_path / OWN_PLANS, force=False)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(InputError, match=r"comparison\.json is damaged"):
        check_record(tmp_path, TERMS, tmp_path / OWN_PLANS, force=False)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is no run folder"), locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="is a file"), locked(tmp_path / "thesis.tex"):
        pass


def test_a_folder_whose_record_was_never_finished_is_taken_over(tmp_path: Path) -> None:
    """The command was killed while it first wrote the record."""
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    partial = tmp_path / f".comparison.json.partial-{platform.node()}-{killed.pid}"
    partial.touch()
    with locked(tmp_path):
        check_record(tmp_path, TERMS, tmp_path / OWN_PLANS, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.json", "lock"]


def test_a_training_that_outlives_its_command_holds_the_folder(tmp_path: Path) -> None:
    with locked(tmp_path) as lock:
        wait = [sys.executable, "-c", "input()"]
        training = subprocess.Popen(wait, pass_fds=(lock,), stdin=subprocess.PIPE, start_new_session=True)
    with pytest.raises(InputError, match="still works in"), locked(tmp_path):
        pass
    training.communicate(b"\n")
    with locked(tmp_path):
        pass


def test_a_command_whose_script_has_ended_is_no_worker_that_was_left_behind(tmp_path: Path) -> None:
    command = (
        "import os, sys, time; from pathlib import Path; from nnunet_fganet.comparison.record import locked\n"
        "with locked(Path(sys.argv[1])): print(os.getpid(), flush=True); time.sleep(600)"
    )
    script = f"{sys.executable} -c '{command}' {tmp_path} &"
    with subprocess.Popen(script, shell=True, stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout is not None
        process = int(shell.stdout.readline())
        shell.wait()
        with pytest.raises(InputError, match="still works in"), locked(tmp_path):
            pass
        os.kill(process, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not tell who has a file open")
def test_workers_of_a_killed_training_are_named_with_what_ends_them(tmp_path: Path) -> None:
    worker = [sys.executable, "-c", "print(flush=True); input()"]
    command = f"import subprocess; subprocess.run({worker}, close_fds=False)"
    with locked(tmp_path) as lock:
        training = subprocess.Popen(
            [sys.executable, "-c", command],
            pass_fds=(lock,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert training.stdin is not None and training.stdout is not None
        training.stdout.readline()  # the worker lives
    try:
        with pytest.raises(InputError, match="wait for its end"), locked(tmp_path):
            pass
        training.kill()
        training.wait()
        way_out = f"kill -- -{training.pid}"
        with pytest.raises(InputError, match=f"workers .* hold {tmp_path}: end them with {way_out}"), locked(tmp_path):
            pass
        subprocess.run(way_out, shell=True, check=True)
        with (tmp_path / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # waits for the worker's end
    finally:
        training.stdin.close()
        training.stdout.close()
    with locked(tmp_path):
        pass


def test_plans_are_written_once_and_a_changed_base_is_noticed(tmp_path: Path) -> None:
    base, target, root = tmp_path / "base.json", tmp_path / "base_trial.json", tmp_path / "trial"
    base.write_text(json.dumps(PLANS))
    configurations = configurations_of(compared_entries(["fganet", "unet"]), PLANS, REGION, (0,))
    keep_plans(base, target, configurations, root, force=False)
    written = target.read_text()
    assert json.loads(written)["plans_name"] == "base_trial"
    assert set(json.loads(written)["configurations"]) == {"2d", "2d_stock", "2d_seed0", "2d_unet_seed0"}
    trained = checkpoint(root)
    keep_plans(base, target, configurations, root, force=False)
    assert target.read_text() == written
    longer = configurations_of(compared_entries(["fganet"]), with_budget(PLANS, 9, None), REGION, (0,))
    with pytest.raises(InputError, match="the data set was planned anew since"):
        keep_plans(base, target, longer, root, force=False)
    assert trained.exists()
    keep_plans(base, target, longer, root, force=True)
    assert not trained.exists()
    assert json.loads(target.read_text())["configurations"]["2d_seed0"]["fganet"]["epochs"] == 9


@pytest.mark.parametrize(
    ("name", "plans"), [("trial", "P_trial"), ("first run", "P_first_run"), ("a__b.c", "P_a_b_c"), ("é", "P")]
)
def test_names_of_plans_are_names_that_nnunet_can_take_apart(tmp_path: Path, name: str, plans: str) -> None:
    assert re.fullmatch(plans + "_[0-9a-f]{8}", plans_name_of("P", tmp_path / name))


def test_run_folders_of_one_name_have_plans_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [tmp_path / name for name in ("a/first", "b/first", "run 1", "run_1")]
    names = {plans_name_of("P", root) for root in roots}
    assert len(names) == 4
    monkeypatch.chdir(tmp_path)
    assert plans_name_of("P", Path("b/../a/first")) == plans_name_of("P", roots[0])


def test_a_folder_that_was_moved_keeps_the_name_of_its_plans(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    name = plans_name_of("P", here)
    here.mkdir()
    check_record(here, TERMS | {"base_plans": "P", "plans": name}, tmp_path / OWN_PLANS, force=False)
    here.rename(there)
    assert plans_name_of("P", there) == name
    assert plans_name_of("Q", there) != name.replace("P", "Q", 1)


def made(root: Path, base: Path, epochs: int, force: bool = False, networks: Sequence[str] = ("fganet",)) -> Path:
    """What a comparison does to its run folder and plans before it trains; returns the plans."""
    target = base.with_name(f"{plans_name_of(base.stem, root)}.json")
    configurations = configurations_of(compared_entries(networks), with_budget(PLANS, epochs, None), REGION, (0,))
    check_own_plans(target, root, force)
    root.mkdir(exist_ok=True)
    check_record(root, TERMS | {"epochs": epochs, "base_plans": base.stem, "plans": target.stem}, target, force)
    keep_plans(base, target, configurations, root, force)
    return target


def test_force_leaves_plans_alone_that_another_folder_or_a_user_needs(tmp_path: Path) -> None:
    base, first, second = tmp_path / "base.json", tmp_path / "first", tmp_path / "second"
    base.write_text(json.dumps(PLANS))
    plans = made(first, base, 5)
    written = plans.read_text()
    shutil.copytree(first, second)
    trained = checkpoint(second)
    assert made(second, base, 5) == plans
    with pytest.raises(InputError, match=f"also serves the run folder {first}, which --force would ruin"):
        made(second, base, 6, force=True)
    assert plans.read_text() == written
    assert trained.exists()
    shutil.rmtree(first)  # as if it had been moved: now the plans are those of the second folder
    made(second, base, 6, force=True)
    with pytest.raises(InputError, match=f"also serves the run folder {second}"):
        made(first, base, 7, force=True)
    plans.write_text(json.dumps(PLANS))  # what fganet plan writes
    with pytest.raises(InputError, match="was not written for a comparison, and is not replaced"):
        made(second, base, 8, force=True)
    assert json.loads(plans.read_text()) == PLANS


@pytest.mark.parametrize("first", [("fganet", "unet"), ("unet",)])
def test_what_was_not_chosen_with_force_can_be_chosen_later(tmp_path: Path, first: Sequence[str]) -> None:
    base, root = tmp_path / "base.json", tmp_path / "run"
    base.write_text(json.dumps(PLANS))
    made(root, base, 5, networks=first)
    made(root, base, 10, force=True)
    trained = checkpoint(root)
    plans = made(root, base, 10, networks=("fganet", "unet"))
    assert trained.exists()
    configurations = json.loads(plans.read_text())["configurations"]
    assert {configurations[name]["fganet"]["epochs"] for name in ("2d_seed0", "2d_unet_seed0")} == {10}


def test_plans_of_a_folder_that_was_removed_are_replaced(tmp_path: Path) -> None:
    base, root = tmp_path / "base.json", tmp_path / "run"
    base.write_text(json.dumps(PLANS))
    made(root, base, 5)
    shutil.rmtree(root)
    plans = made(root, base, 6)
    assert json.loads(plans.read_text())["configurations"]["2d_seed0"]["fganet"]["epochs"] == 6


def test_force_removes_the_page_and_the_plans_of_the_trainings_that_it_removes(tmp_path: Path) -> None:
    base, other, root = tmp_path / "base.json", tmp_path / "other.json", tmp_path / "run"
    for file in (base, other):
        file.write_text(json.dumps(PLANS))
    earlier = made(root, base, 5)
    (root / "report.html").touch()
    now = made(root, other, 5, force=True)
    assert now != earlier
    assert (now.exists(), earlier.exists(), (root / "report.html").exists()) == (True, False, False)


def test_too_little_disk_is_said_before_the_training(tmp_path: Path) -> None:
    check_disk(tmp_path, 1)
    with pytest.raises(InputError, match=r"GB free, and the trainings that are left write about 1000000\.0 GB"):
        check_disk(tmp_path, 1e15)
