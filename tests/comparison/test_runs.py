"""How far a run is, by the files that nnU-Net leaves."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_fganet.commands.running import WAITING_THREADS
from nnunet_fganet.comparison.entries import compared_entries
from nnunet_fganet.comparison.runs import Run, RunFolder, State, runs_of
from nnunet_fganet.comparison.training import Trainings, failure_of_command, nnunet_command, train_all

FRAMES = ("a_000", "b_000")
[UNET, FGANET] = compared_entries(["unet", "fganet"])
RUN = Run(UNET, fold=1, seed=3)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, "Dataset501_TCGSeg", "nnUNetFGANetPlans_trial")


def write(folder: RunFolder, *checkpoints: str, predicted: tuple[str, ...] = (), summary: str | None = None) -> None:
    fold = folder.fold(RUN)
    (fold / "validation").mkdir(parents=True, exist_ok=True)
    for name in checkpoints:
        (fold / f"checkpoint_{name}.pth").touch()
    for case in predicted:
        (fold / "validation" / f"{case}.png").touch()
        np.savez_compressed(fold / "validation" / f"{case}.npz", probabilities=np.zeros((1, 1, 2, 2)))
    if summary is not None:
        (fold / "validation" / "summary.json").write_text(summary)


def state(folder: RunFolder) -> State:
    return folder.state(RUN, FRAMES, ".png")


def test_files_lie_where_nnunet_puts_them(folder: RunFolder) -> None:
    name = "nnUNetTrainerComparator__nnUNetFGANetPlans_trial__2d_unet_seed3"
    assert folder.fold(RUN) == folder.root / "results" / "Dataset501_TCGSeg" / name / "fold_1"


def test_a_run_is_new_started_trained_and_done(folder: RunFolder) -> None:
    assert state(folder) is State.NEW
    write(folder)
    assert state(folder) is State.NEW  # a training that was killed in its first epoch
    write(folder, "latest", "best")
    assert state(folder) is State.STARTED
    write(folder, "final", predicted=FRAMES[:1])
    assert state(folder) is State.TRAINED
    write(folder, predicted=FRAMES)
    assert state(folder) is State.TRAINED  # nnU-Net writes its summary last
    write(folder, summary=json.dumps({"mean": {}}))
    assert state(folder) is State.DONE


@pytest.mark.parametrize("damage", ["summary", "mask", "probabilities"])
def test_a_validation_that_was_cut_off_is_not_done(folder: RunFolder, damage: str) -> None:
    write(folder, "best", "final", predicted=FRAMES, summary="{}")
    validation = folder.validation(RUN)
    if damage == "summary":
        (validation / "summary.json").write_text('{"mean": ')
    elif damage == "mask":
        (validation / "b_000.png").unlink()
    else:
        archive = validation / "b_000.npz"
        archive.write_bytes(archive.read_bytes()[:40])
    assert state(folder) is State.TRAINED


def trainings(folder: RunFolder) -> Trainings:
    return Trainings(folder, [RUN], {1: FRAMES}, ".png", 5, "cpu", 2)


def test_the_command_goes_on_from_there(folder: RunFolder) -> None:
    given = ["Dataset501_TCGSeg", "2d_unet_seed3", "1", "-tr", "nnUNetTrainerComparator"]
    given += ["-p", "nnUNetFGANetPlans_trial", "-device", "cpu", "--npz"]
    assert nnunet_command(trainings(folder), RUN)[1:] == given
    write(folder, "latest")
    assert nnunet_command(trainings(folder), RUN)[1:] == [*given, "--c"]
    write(folder, "final")
    assert nnunet_command(trainings(folder), RUN)[1:] == [*given, "--val"]


def test_threads_of_a_training_do_not_wait_at_its_workers_cost(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    monkeypatch.setattr("nnunet_fganet.comparison.training.nnunet_command", lambda *given: shown)
    [failure] = train_all(trainings(folder))  # it trains nothing
    environment = json.loads(folder.log(failure.run).read_text())
    assert environment["nnUNet_n_proc_DA"] == "2" and WAITING_THREADS.items() <= environment.items()


def test_epochs_that_are_trained_are_not_left(folder: RunFolder) -> None:
    """By lines of nnU-Net 2.8.1: two epochs of the first start and the third of the second, which was killed later."""
    ended = "19:04:10: Epoch {0}\n19:04:32: train_loss 1.5\n19:04:32: Epoch time: 21.3 s\n"
    assert trainings(folder).epochs_left(RUN) == 5
    write(folder, "latest")
    assert trainings(folder).epochs_left(RUN) == 5  # nobody knows
    folder.log(RUN).parent.mkdir()
    folder.log(RUN).write_text("".join(map(ended.format, range(3))) + "19:05:10: Epoch 3\n")
    assert trainings(folder).epochs_left(RUN) == 2
    write(folder, "final")
    assert trainings(folder).epochs_left(RUN) == 0


def test_every_entry_is_trained_before_the_next_fold() -> None:
    order = [(run.seed, run.fold, run.entry.name) for run in runs_of([UNET, FGANET], (0, 2), (7,))]
    assert order == [(7, 0, "unet"), (7, 0, "fganet"), (7, 2, "unet"), (7, 2, "fganet")]
    assert len({run.name for run in runs_of([UNET, FGANET], (0, 1), (0, 1))}) == 8


def test_a_failure_names_its_log_and_the_last_line(folder: RunFolder) -> None:
    log = folder.log(RUN)
    log.parent.mkdir()
    log.write_text("Epoch 3\nRuntimeError: out of memory\n\n")
    said = str(failure_of_command(RUN, 1, log))
    assert said == f"U-Net, fold 1, seed 3: exit code 1, see {log}, which ends with 'RuntimeError: out of memory'"
