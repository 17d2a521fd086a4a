"""``fganet evaluate`` on folders as nnU-Net and the converter write them, and on everything that can be wrong."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from sklearn.metrics import f1_score, roc_auc_score

from nnunet_fganet.cli.main import main
from nnunet_fganet.evaluation.summary import METRICS

SIZE = (40, 48)
CASES = [f"seq{sequence:02d}_{frame:03d}" for sequence in range(5) for frame in range(2)]
REGION = {"labels": {"background": 0, "guidewire": [1, 1]}, "regions_class_order": [1]}
PLAIN = {"labels": {"background": 0, "guidewire": 1}}


def wire(number: int) -> np.ndarray:
    """Label of frame ``number``; frame 9 shows no wire."""
    label = np.zeros(SIZE, np.uint8)
    if number != 9:
        label[8 + 2 * number : 10 + 2 * number, : 30 + number] = 1
    return label


def probability(number: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng([number, seed]).normal(0, 0.13, SIZE)
    return np.clip(0.15 + 0.7 * wire(number) + noise, 0, 1).astype(np.float32)


def write_masks(folder: Path, masks: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for case, mask in masks.items():
        cv2.imwrite(str(folder / f"{case}.png"), mask)


def write_predictions(folder: Path, seed: int, dataset: dict | None = REGION, npz: bool = True) -> None:
    """What ``nnUNetv2_predict --save_probabilities`` writes."""
    numbered = list(enumerate(CASES))
    write_masks(folder, {case: (probability(i, seed) > 0.5).astype(np.uint8) for i, case in numbered})
    if dataset is not None:
        (folder / "dataset.json").write_text(json.dumps(dataset))
        (folder / "plans.json").write_text("{}")
    for i, case in numbered if npz else []:
        channel = probability(i, seed)[None, None]
        channels = channel if dataset is not PLAIN else np.concatenate((1 - channel, channel))
        np.savez_compressed(folder / f"{case}.npz", probabilities=channels)


class Folders:
    """A converted data set and predictions of its test frames, in the region style."""

    def __init__(self, root: Path) -> None:
        self.root, self.raw = root, root / "Dataset501_TCGSeg"
        self.labels, self.predictions, self.json = self.raw / "labelsTs", root / "predictions", root / "summary.json"
        write_masks(self.labels, {case: wire(i) for i, case in enumerate(CASES)})
        (self.raw / "dataset.json").write_text(json.dumps(REGION))
        self.write_record({case: f"patient{i // 4}" for i, case in enumerate(CASES)})
        write_predictions(self.predictions, seed=0)

    def write_record(self, patients: dict[str, str], spacing: float | str = 0.5) -> None:
        with (self.raw / "frames.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["case", "split", "sequence", "patient", "source", "sha256", "spacing_mm", "time_s"])
            for case, patient in patients.items():
                table.writerow([case, "test", case[:5], patient, "", "", spacing, ""])

    def evaluate(self, *options: object, code: int = 0) -> dict:
        arguments = ["evaluate", self.predictions, self.labels, "--json", self.json, "--force", *options]
        assert main([str(argument) for argument in arguments]) == code
        return json.loads(self.json.read_text()) if code == 0 else {}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_figures_are_those_of_scikit_learn(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    summary = folders.evaluate()
    truth = np.concatenate([wire(i).ravel() for i in range(10)])
    values = np.concatenate([probability(i, 0).ravel() for i in range(10)])
    assert summary["dice"] == pytest.approx(f1_score(truth, values > 0.5))
    assert summary["macro_f1"] == pytest.approx(f1_score(truth, values > 0.5, average="macro"))
    assert summary["auc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-4)
    assert (summary["frames"], summary["groups"]) == (10, 5)
    assert set(summary["metrics"]) == {metric.key for metric in METRICS} <= set(summary)
    assert summary["classes"] == {"guidewire": summary["metrics"]}
    assert summary["tip_error_mm"] == pytest.approx(summary["tip_error"] / 2)
    for figure in summary["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    output = capsys.readouterr().out
    assert "10 frames of 5 sequences" in output
    assert "frames.csv" in output
    row = next(line for line in output.splitlines() if line.startswith("Dice, pooled"))
    assert f"{summary['dice']:.3f} ({summary['metrics']['dice']['low']:.3f} to" in row
    assert "higher" in row


def test_figures_of_frames_are_nnunets_own(folders: Folders, tmp_path: Path) -> None:
    folders.evaluate("--csv", tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    theirs = compute_metrics_on_folder(
        str(folders.labels), str(folders.predictions), None, NaturalImage2DIO(), ".png", [1], num_processes=1
    )
    assert len(rows) == len(theirs["metric_per_case"]) == 10
    for case in theirs["metric_per_case"]:
        row, metrics = rows[Path(case["prediction_file"]).stem], case["metrics"][1]
        assert (row["class"], row["group"]) == ("guidewire", row["case"][:5])
        assert float(row["dice"]) == pytest.approx(metrics["Dice"], abs=1e-5)
        assert float(row["iou"]) == pytest.approx(metrics["IoU"], abs=1e-5)
        counted = [int(row[key]) for key in ("true_positive", "false_positive", "false_negative", "true_negative")]
        assert counted == [metrics[key] for key in ("TP", "FP", "FN", "TN")]
    assert rows[CASES[9]]["one_piece"] == rows[CASES[9]]["auc"] == ""  # no wire there


def test_the_number_of_workers_changes_nothing(folders: Folders) -> None:
    assert folders.evaluate("--workers", 1) == folders.evaluate("--workers", 3)


def test_plain_labels_and_regions_give_the_same_figures(folders: Folders) -> None:
    regions = folders.evaluate()
    write_predictions(folders.predictions, seed=0, dataset=PLAIN)
    (folders.raw / "dataset.json").write_text(json.dumps(PLAIN))
    assert folders.evaluate()["metrics"] == regions["metrics"]


def test_several_classes_and_an_ignore_label(folders: Folders) -> None:
    labels = {"background": 0, "wires": [1, 2], "guidewire": 2, "ignore": 3}
    dataset = json.dumps({"labels": labels, "regions_class_order": [1, 2]})
    for folder in (folders.raw, folders.predictions):
        (folder / "dataset.json").write_text(dataset)
    alone = folders.evaluate("--probabilities", write_channels(folders, 2))["metrics"]
    for i, case in enumerate(CASES):
        label, prediction = wire(i) * 2, (probability(i, 0) > 0.5).astype(np.uint8) * 2
        label[-3:] = 3
        prediction[-3:] = 1  # a false wire where nobody has labelled
        write_masks(folders.labels, {case: label})
        write_masks(folders.predictions, {case: prediction})
    summary = folders.evaluate("--probabilities", write_channels(folders, 2))
    assert set(summary["classes"]) == {"wires", "guidewire"}
    assert summary["classes"]["wires"]["dice"] == summary["classes"]["guidewire"]["dice"]
    assert alone["dice"]["value"] != summary["dice"]
    kept = slice(None, -3)
    truth = np.concatenate([wire(i)[kept].ravel() for i in range(10)])
    values = np.concatenate([probability(i, 0)[kept].ravel() for i in range(10)])
    assert summary["dice"] == pytest.approx(f1_score(truth, values > 0.5))
    assert summary["auc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-4)


def write_channels(folders: Folders, channels: int) -> Path:
    folder = folders.root / "probabilities"
    folder.mkdir(exist_ok=True)
    for i, case in enumerate(CASES):
        np.savez_compressed(folder / f"{case}.npz", probabilities=np.stack([probability(i, 0)[None]] * channels))
    return folder


def test_patients_are_resampled_on_demand(folders: Folders) -> None:
    by_sequence, by_patient = folders.evaluate(), folders.evaluate("--by", "patient")
    assert (by_sequence["groups"], by_patient["groups"]) == (5, 3)
    assert by_sequence["dice"] == by_patient["dice"]
    assert by_sequence["metrics"]["dice"] != by_patient["metrics"]["dice"]


def test_without_a_record_the_file_names_tell_the_sequences(folders: Folders) -> None:
    (folders.raw / "frames.csv").unlink()
    summary = folders.evaluate()
    assert summary["groups"] == 5
    assert summary["tip_error_mm"] is None
    assert "file name" in summary["notes"][0]


def test_without_dataset_json_everything_but_zero_is_wire(folders: Folders) -> None:
    expected = folders.evaluate()
    (folders.raw / "dataset.json").unlink()
    (folders.predictions / "dataset.json").unlink()
    for i, case in enumerate(CASES):
        write_masks(folders.labels, {case: wire(i) * 255})
    summary = folders.evaluate()
    assert summary["metrics"] == expected["metrics"]
    assert any("every value but 0" in note for note in summary["notes"])


def test_one_sequence_has_no_intervals_and_says_so(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    folders.write_record(dict.fromkeys(CASES, "anna"))
    summary = folders.evaluate("--by", "patient")
    assert summary["metrics"]["dice"]["low"] is None
    assert summary["dice"] > 0.5
    assert "one patient: no intervals" in capsys.readouterr().out


def test_without_probabilities_all_else_is_computed(folders: Folders) -> None:
    expected = folders.evaluate()
    for path in folders.predictions.glob("*.npz"):
        path.unlink()
    summary = folders.evaluate()
    assert summary["auc"] is summary["ece"] is None
    assert summary["dice"] == expected["dice"]
    assert any("--save_probabilities" in note for note in summary["notes"])


def test_a_fold_is_evaluated_by_its_validation_frames(folders: Folders) -> None:
    splits = [{"train": CASES[4:], "val": CASES[:4]}, {"train": CASES[:4], "val": CASES[4:]}]
    (folders.raw / "splits_final.json").write_text(json.dumps(splits))
    for case in CASES[4:]:
        (folders.predictions / f"{case}.png").unlink()
    summary = folders.evaluate("--fold", 0)
    assert (summary["frames"], summary["groups"]) == (4, 2)
    folders.evaluate("--fold", 1, code=2)


def test_differences_to_other_predictions_are_paired(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    other = folders.root / "other"
    write_predictions(other, seed=1, npz=False)
    summary = folders.evaluate("--against", other)
    difference = summary["difference"]["metrics"]
    folders.predictions = other
    assert difference["dice"]["value"] == pytest.approx(summary["dice"] - folders.evaluate()["dice"])
    assert difference["dice"]["low"] <= difference["dice"]["value"] <= difference["dice"]["high"]
    assert difference["auc"]["value"] is None
    assert f"predictions minus {other}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_itself(folders: Folders, nnunet) -> None:
    table = folders.root / "frames.csv"
    arguments = ("evaluate", folders.predictions, folders.labels, "--csv", table, "--json", folders.json)
    output = nnunet.run("fganet", *arguments, "--workers", "2")
    assert "clDice" in output
    assert len(table.read_text().splitlines()) == 11
    refusal = nnunet.run("fganet", *arguments, code=2)
    assert refusal.count("\n") == 1
    assert "--force" in refusal


def unlink(name: str) -> Callable[[Folders], None]:
    return lambda folders: (folders.root / name).unlink()


def mask(name: str, pixels: np.ndarray) -> Callable[[Folders], object]:
    return lambda folders: cv2.imwrite(str(folders.root / name), pixels)


def text(name: str, content: str) -> Callable[[Folders], object]:
    return lambda folders: (folders.root / name).write_text(content)


def npz(array: np.ndarray) -> Callable[[Folders], object]:
    return lambda folders: np.savez(folders.predictions / f"{CASES[3]}.npz", probabilities=array)


def nothing(folders: Folders) -> None:
    """The folders are sound; the command line is not."""


def swapped(folders: Folders) -> None:
    folders.predictions, folders.labels = folders.labels, folders.predictions


def swapped_outside_a_data_set(folders: Folders) -> None:
    (folders.raw / "dataset.json").unlink()
    swapped(folders)


def same_folder(folders: Folders) -> None:
    folders.predictions = folders.labels / ".." / "labelsTs"


def empty_folder(folders: Folders) -> None:
    folders.predictions = folders.root / "empty"
    folders.predictions.mkdir()


def missing_folder(folders: Folders) -> None:
    folders.predictions = folders.root / "gone"


def fewer_probabilities(folders: Folders) -> None:
    for case in CASES[2:5]:
        (folders.predictions / f"{case}.npz").unlink()


def no_patients(folders: Folders) -> None:
    folders.write_record(dict.fromkeys(CASES, ""))


def one_patient_unknown(folders: Folders) -> None:
    folders.write_record({**dict.fromkeys(CASES, "anna"), CASES[6]: ""})


FIRST = f"predictions/{CASES[0]}"
LABEL = f"Dataset501_TCGSeg/labelsTs/{CASES[0]}.png"
TABLE = "Dataset501_TCGSeg/frames.csv"
# What is wrong, the options, and what the sentence has to say.
BAD_INPUT = {
    "missing_prediction": (unlink(f"{FIRST}.png"), [], ["1 of 10", CASES[0]]),
    "extra_prediction": (mask("predictions/extra.png", wire(0)), [], ["no labels of", "extra"]),
    "two_of_one_frame": (mask(f"{FIRST}.bmp", wire(0)), [], [f"{CASES[0]}.bmp", "two masks"]),
    "other_size": (mask(f"{FIRST}.png", wire(0)[:, 1:]), [], [f"{FIRST}.png", "47 x 40", "48 x 40"]),
    "damaged_mask": (text(f"{FIRST}.png", "PNG"), [], [f"{FIRST}.png", "damaged"]),
    "colour_mask": (mask(f"{FIRST}.png", np.dstack([wire(0), wire(1), wire(2)])), [], [f"{FIRST}.png", "colour"]),
    "values_outside": (mask(f"{FIRST}.png", wire(0) * 255), [], [f"{FIRST}.png", "255", "(0, 1)"]),
    "label_values_outside": (mask(LABEL, wire(0) * 2), [], [LABEL, "2", "(0, 1)"]),
    "swapped": (swapped, [], ["swapped"]),
    "swapped_outside_a_data_set": (swapped_outside_a_data_set, [], ["swapped"]),
    "same_folder": (same_folder, [], ["two folders"]),
    "empty_folder": (empty_folder, [], ["empty", "no images"]),
    "missing_folder": (missing_folder, [], ["gone", "no folder"]),
    "other_classes": (
        text("predictions/dataset.json", json.dumps({"labels": {"background": 0, "vessel": 1}})),
        [],
        ["vessel (1)", "guidewire (1)"],
    ),
    "no_dataset_json": (text("predictions/dataset.json", "[]"), [], ["predictions/dataset.json"]),
    "probabilities_missing": (fewer_probabilities, [], ["3 of 10", CASES[2], "--save_probabilities"]),
    "no_probabilities_folder": (nothing, ["--probabilities", "{}/gone"], ["gone"]),
    "other_channels": (npz(np.zeros((3, 1, *SIZE))), [], [f"{CASES[3]}.npz", "(3, 40, 48)", "(1, H, W)"]),
    "probabilities_of_other_size": (npz(np.zeros((1, 1, 9, 9))), [], [f"{CASES[3]}.npz", "9 x 9"]),
    "no_probabilities": (npz(np.full((1, 1, *SIZE), 1.5)), [], [f"{CASES[3]}.npz", "0 to 1"]),
    "not_a_number": (npz(np.full((1, 1, *SIZE), np.nan)), [], [f"{CASES[3]}.npz", "0 to 1"]),
    "damaged_probabilities": (text(f"{FIRST}.npz", "PK"), [], [f"{FIRST}.npz", "cannot be read"]),
    "no_patients": (no_patients, ["--by", "patient"], ["--by patient", "frames.csv", "and 5 more"]),
    "one_patient_unknown": (one_patient_unknown, ["--by", "patient"], ["--by patient", CASES[6]]),
    "no_record_of_patients": (unlink(TABLE), ["--by", "patient"], ["--by patient", "--frames"]),
    "frame_not_in_record": (text(TABLE, f"case,sequence\n{CASES[0]},a\n"), [], ["frames.csv", "9 of 10", CASES[1]]),
    "frame_twice_in_record": (text(TABLE, "case,sequence\na,a\na,b\n"), [], ["frames.csv", "twice"]),
    "spacing_is_no_length": (text(TABLE, "case,sequence,spacing_mm\na,a,-1\n"), [], ["frames.csv", "'-1'"]),
    "no_table": (nothing, ["--frames", "{}/gone.csv"], ["gone.csv"]),
    "no_splits": (nothing, ["--fold", "0"], ["--fold 0", "splits_final.json"]),
    "no_such_fold": (text("Dataset501_TCGSeg/splits_final.json", '[{"val": []}]'), ["--fold", "1"], ["0 to 0"]),
    "against_one_sequence": (
        no_patients,
        ["--against", "{}/predictions", "--frames", "{}/one.csv"],
        ["one group", "at least 2"],
    ),
    "csv_is_a_folder": (nothing, ["--csv", "{}"], ["is a folder"]),
    "csv_in_no_folder": (nothing, ["--csv", "{}/gone/frames.csv"], ["no folder", "gone"]),
    "csv_is_json": (nothing, ["--csv", "{}/summary.json"], ["two files"]),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_code_2(case: str, folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, options, expected = BAD_INPUT[case]
    (folders.root / "one.csv").write_text("case,sequence\n" + "".join(f"{name},one\n" for name in CASES))
    spoil(folders)
    folders.evaluate(*(option.format(folders.root) for option in options), code=2)
    errors = [line for line in capsys.readouterr().err.splitlines() if "frame/s]" not in line and line.strip()]
    assert len(errors) == 1 and errors[0].startswith("fganet: "), errors
    for words in expected:
        assert words in errors[0]
    assert not folders.json.exists()


def test_nothing_is_replaced_without_force(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    folders.json.write_text("mine")
    arguments = ["evaluate", folders.predictions, folders.labels, "--json", folders.json]
    assert main([str(argument) for argument in arguments]) == 2
    assert "--force" in capsys.readouterr().err
    assert folders.json.read_text() == "mine"
    assert folders.evaluate()["frames"] == 10
