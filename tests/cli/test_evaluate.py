"""``fganet evaluate`` on folders as nnU-Net and the converter write them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_folders import CASES, PLAIN, Folders, probability, wire, write_masks, write_predictions
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from sklearn.metrics import f1_score, roc_auc_score

from nnunet_fganet.cli.main import main
from nnunet_fganet.evaluation.summary import METRICS


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


def test_labels_by_a_link_belong_to_the_data_set_around_the_link(folders: Folders) -> None:
    expected = folders.evaluate()
    store = folders.root / "store" / "masks"
    store.parent.mkdir()
    folders.labels.rename(store)
    folders.labels.symlink_to(store)
    (folders.predictions / "dataset.json").unlink()
    summary = folders.evaluate()
    assert summary["metrics"] == expected["metrics"] and summary["notes"] == expected["notes"]
    folders.labels.unlink()
    folders.labels = folders.root / "link"  # outside of a data set, into one
    store.rename(folders.raw / "labelsTs")
    folders.labels.symlink_to(folders.raw / "labelsTs")
    assert folders.evaluate()["metrics"] == expected["metrics"]


def test_sequences_of_one_name_in_two_patients_are_two(folders: Folders) -> None:
    rows = [f"{case},{'one' if i < 6 else 'two'},{'anna' if i < 3 else 'bert'}\n" for i, case in enumerate(CASES)]
    (folders.root / "table.csv").write_text("case,sequence,patient\n" + "".join(rows))
    table = folders.root / "figures.csv"
    assert folders.evaluate("--frames", folders.root / "table.csv", "--csv", table)["groups"] == 3
    with table.open(newline="") as file:
        assert {row["group"] for row in csv.DictReader(file)} == {"anna/one", "bert/one", "two"}


def test_a_sequence_whose_patient_is_known_of_some_frames_is_one(folders: Folders) -> None:
    folders.write_record({case: "anna" if i % 2 else "" for i, case in enumerate(CASES)})
    assert folders.evaluate()["groups"] == 5


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
    assert any("there are none (.npz)" in note and "--save_probabilities" in note for note in summary["notes"])


def test_probabilities_of_some_frames_are_as_good_as_none_and_a_note_names_the_others(folders: Folders) -> None:
    for case in CASES[2:5]:
        (folders.predictions / f"{case}.npz").unlink()
    summary = folders.evaluate()
    assert summary["auc"] is summary["ece"] is None
    [note] = [note for note in summary["notes"] if "AUC" in note]
    assert f"3 of 10 frames ({', '.join(CASES[2:5])})" in note


def test_probabilities_of_other_frames_do_not_matter(folders: Folders) -> None:
    for path in folders.predictions.glob("*.npz"):
        path.unlink()
    expected = folders.evaluate()
    np.savez(folders.predictions / "stray.npz", probabilities=np.zeros((1, 1, 4, 4)))
    assert folders.evaluate() == expected


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
    output = capsys.readouterr().out
    assert f"predictions minus {other}" in output
    assert f"{other}: AUC and ECE need the probabilities of all frames" in output


def test_notes_on_the_other_predictions_are_in_the_summary_too(folders: Folders) -> None:
    other = folders.root / "other"
    write_predictions(other, seed=1, npz=False)
    alone, both = folders.evaluate()["notes"], folders.evaluate("--against", other)["notes"]
    assert both[: len(alone)] == alone
    assert len(both) == len(alone) + 1 and both[-1].startswith(f"{other}: AUC")


def test_what_a_comparison_lacks_is_said_before_all_is_measured(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    folders.write_record(dict.fromkeys(CASES, "anna"))
    folders.evaluate("--by", "patient", "--against", folders.predictions, code=2)
    said = capsys.readouterr()
    assert "Dice, pooled" not in said.out and "one group (anna)" in said.err
    folders.evaluate("--against", folders.root / "gone", code=2)
    said = capsys.readouterr()
    assert "Dice, pooled" not in said.out and "no folder" in said.err


def test_a_comparison_that_fails_leaves_what_was_measured_before(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    other, table = folders.root / "other", folders.root / "frames.csv"
    alone = folders.evaluate()
    write_predictions(other, seed=1, npz=False)
    (other / f"{CASES[9]}.png").write_text("PNG")
    folders.json.unlink()
    arguments = ["evaluate", folders.predictions, folders.labels, "--against", other]
    assert main([str(each) for each in (*arguments, "--csv", table, "--json", folders.json)]) == 2
    assert f"{other / CASES[9]}.png" in capsys.readouterr().err
    assert json.loads(folders.json.read_text()) == alone
    assert len(table.read_text().splitlines()) == 11


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
