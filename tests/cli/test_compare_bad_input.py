"""``fganet compare`` and ``fganet ablate``: what cannot be used is said in one sentence, before anything is trained."""

import builtins
import json
import shutil
from pathlib import Path

import pytest
import torch
from planned_dataset import write_planned_dataset, write_record
from wire_dataset import DATASET_ID, DATASET_NAME

from nnunet_fganet.cli.main import main
from nnunet_fganet.comparison.record import plans_name_of


class Planned:
    """A planned data set, and the commands on it."""

    def __init__(self, nnunet, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.raw, self.out, self.capsys = nnunet.raw, root / "run", capsys
        self.folder = write_planned_dataset(nnunet.raw, nnunet.preprocessed)

    def refused(self, *options: object, command: str = "compare", dataset: object = DATASET_ID) -> str:
        arguments = [command, dataset, "--device", "cpu", "--out", self.out, *options]
        assert main([str(argument) for argument in arguments]) == 2
        output = self.capsys.readouterr()
        assert output.err.count("\n") == 1
        assert "nnUNetv2_train" not in output.out
        return output.err

    def change_plans(self, **settings: object) -> None:
        file = self.folder / "nnUNetFGANetPlans.json"
        plans = json.loads(file.read_text())
        plans["configurations"]["2d"]["fganet"] |= settings
        file.write_text(json.dumps(plans))


@pytest.fixture
def planned(nnunet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Planned:
    return Planned(nnunet, tmp_path, capsys)


def test_a_data_set_that_is_not_there_or_not_planned(planned: Planned) -> None:
    assert "there is no data set 777" in planned.refused(dataset=777)
    assert "OtherPlans.json: make them with fganet plan 901" in planned.refused("--plans", "OtherPlans")
    (planned.folder / "nnUNetFGANetPlans_2d" / "case03.b2nd").unlink()
    assert "lacks 1 of 10 preprocessed frames (case03): run fganet plan 901 again" in planned.refused()
    shutil.rmtree(planned.folder / "nnUNetFGANetPlans_2d")
    assert "lacks 10 of 10 preprocessed frames" in planned.refused()
    (planned.folder / "dataset.json").write_text("{")
    assert "dataset.json is missing or damaged" in planned.refused()
    assert not planned.out.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alpah": 0.1}, "not known: alpah"),
        ({"alpha": 1.5}, "alpha must be at least 0 and below 1, not 1.5"),
        ({"epochs": "many"}, "epochs must be an integer, not 'many'"),
        ({"precision": "fp32"}, "precision must be one of auto, float32, bfloat16, not fp32"),
    ],
)
def test_mistyped_plans(planned: Planned, settings: dict[str, object], said: str) -> None:
    planned.change_plans(**settings)
    for command in ("compare", "ablate"):
        error = planned.refused(command=command)
        assert f"{planned.folder / 'nnUNetFGANetPlans.json'} cannot be trained with (" in error
        assert "fganet plan 901 --force" in error
        assert said in error


def test_a_mistyped_precision_of_the_environment(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGANET_PRECISION", "fp32")
    assert "precision 'fp32' is not known; set FGANET_PRECISION" in planned.refused()


def test_nnunets_folders_are_not_set(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_preprocessed")
    assert "nnUNet_preprocessed is not set" in planned.refused()


def test_splits_that_nnunet_would_make_up(planned: Planned) -> None:
    (planned.folder / "splits_final.json").unlink()
    assert "fganet convert, which keeps sequences together" in planned.refused()


def test_folds_that_do_not_exist_or_share_frames(planned: Planned) -> None:
    assert "--folds 5: " in (said := planned.refused("--folds", 0, 5)) and "has the folds 0 to 4" in said
    splits = json.loads((planned.folder / "splits_final.json").read_text())
    splits[1]["val"].append(splits[0]["val"][0])
    (planned.folder / "splits_final.json").write_text(json.dumps(splits))
    assert "--folds 0 1 validate some frames more than once" in planned.refused("--folds", 0, 1)


def test_unknown_networks(planned: Planned) -> None:
    assert "--networks unett: no such network; choose from unet" in planned.refused("--networks", "unett", "fganet")


def test_fewer_sequences_than_intervals_need(planned: Planned) -> None:
    write_record(planned.raw, {f"case{i:02d}": "one" for i in range(10)})
    said = planned.refused("--folds", 0, 1)
    assert "--folds 0 1 are all of one sequence: intervals need at least 2" in said
    assert "--by patient" in planned.refused("--by", "patient")
    write_record(planned.raw, {"case01": "one"})
    assert "frames.csv lacks" in planned.refused()


def test_a_network_that_does_not_fit_the_patch(planned: Planned) -> None:
    file = planned.folder / "nnUNetFGANetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["2d"]["architecture"]["network_class_name"] = "torch.nn.Identity"
    file.write_text(json.dumps(plans))
    assert "hold no FGA-Net to compare with" in planned.refused("--networks", "fganet")


def test_a_library_that_is_missing(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python says it where the extra was not installed."""
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "monai" or name.endswith(".unetplusplus")]:
        monkeypatch.delitem(sys.modules, name)
    found = builtins.__import__

    def without_monai(name, *arguments, **options):
        if name.split(".")[0] == "monai":
            raise ModuleNotFoundError("No module named 'monai'", name="monai")
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_monai)
    said = planned.refused("--networks", "unetplusplus")
    assert "unetplusplus needs a library" in said and "pip install 'nnunet_fganet[compare]'" in said


def test_a_run_folder_of_something_else(planned: Planned) -> None:
    planned.out.mkdir()
    (planned.out / "photo.jpg").touch()
    assert "is no run folder" in planned.refused()
    (planned.out / "comparison.json").write_text(json.dumps({"kind": "ablate", "epochs": 3}))
    said = planned.refused("--networks", "fganet")
    assert "under other terms (kind ablate, now compare" in said and "--force" in said
    assert (planned.out / "photo.jpg").exists()


def test_folds_that_have_changed_since(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        fill_disk(planned, full)
        assert "GB free" in planned.refused("--networks", "fganet")  # the folder has its record by now
    splits = json.loads((planned.folder / "splits_final.json").read_text())
    splits[0], splits[1] = splits[1], splits[0]
    (planned.folder / "splits_final.json").write_text(json.dumps(splits))
    assert "frames, masks or folds of Dataset901_Wires have changed since" in planned.refused("--networks", "fganet")


def test_a_processor_that_computes_in_another_number_format(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(planned, monkeypatch)
    monkeypatch.setenv("FGANET_PRECISION", "bfloat16")
    assert "GB free" in planned.refused("--networks", "fganet")
    monkeypatch.setenv("FGANET_PRECISION", "float32")
    said = planned.refused("--networks", "fganet")
    assert "compute in bfloat16" in said and "go on with FGANET_PRECISION=bfloat16" in said
    monkeypatch.setenv("FGANET_PRECISION", "bfloat16")
    assert "GB free" in planned.refused("--networks", "fganet")


def test_plans_that_are_not_of_a_comparison_are_never_replaced(planned: Planned) -> None:
    other = planned.folder / f"{plans_name_of('nnUNetFGANetPlans', planned.out)}.json"
    written = (planned.folder / "nnUNetFGANetPlans.json").read_bytes()
    other.write_bytes(written)
    said = planned.refused("--networks", "fganet", "--force")
    assert f"{other} was not written for a comparison" in said and "name another folder" in said
    assert other.read_bytes() == written


def test_an_ablation_of_plans_that_lack_a_part(planned: Planned) -> None:
    planned.change_plans(alpha=0)
    assert "leave clDice out already" in planned.refused(command="ablate")


def test_a_gpu_that_is_not_there(planned: Planned) -> None:
    if not torch.cuda.is_available():
        assert "--device cuda: torch finds no GPU here" in planned.refused("--device", "cuda")


def test_a_precision_that_comparators_cannot_keep_to_on_gpus(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a GPU: what is refused here is refused before anything is computed."""
    fill_disk(planned, monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    planned.change_plans(precision="float32")
    said = planned.refused("--device", "cuda", "--networks", "fganet", "unet")
    assert "FGA-Net would compute in float32" in said and "FGANET_PRECISION=auto" in said
    assert "GB free" in planned.refused("--device", "cuda", "--networks", "fganet")
    assert "GB free" in planned.refused("--device", "cuda", "--force", command="ablate")


def fill_disk(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(planned.raw)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))


def test_too_little_disk(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(planned, monkeypatch)
    assert "GB free, and the trainings that are left write about" in planned.refused("--networks", "fganet")


@pytest.mark.parametrize("options", [("--folds", "-1"), ("--seeds", "x"), ("--epochs", "0"), ("--losses", "dice")])
def test_values_outside_their_range_end_with_usage(planned: Planned, options: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(DATASET_ID), "--out", str(planned.out), *options])
    assert ended.value.code == 2


def test_the_data_set_is_not_touched(planned: Planned) -> None:
    before = sorted((planned.raw / DATASET_NAME).rglob("*"))
    planned.refused("--networks", "unett")
    assert sorted((planned.raw / DATASET_NAME).rglob("*")) == before
    assert not list(planned.folder.glob("nnUNetFGANetPlans_run*.json"))
