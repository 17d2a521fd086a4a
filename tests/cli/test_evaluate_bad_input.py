"""Everything that can be wrong with what ``fganet evaluate`` is given: one sentence, exit code 2, nothing written."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_folders import CASES, PLAIN, SIZE, Folders, wire, write_predictions

from nnunet_fganet.cli.main import main


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


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


def grey_edges_without_dataset_json(folders: Folders) -> None:
    for folder in (folders.raw, folders.predictions):
        (folder / "dataset.json").unlink()
    cv2.imwrite(str(folders.labels / f"{CASES[0]}.png"), cv2.GaussianBlur(wire(0) * 255, (3, 3), 0))


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


def classes(labels: object) -> Callable[[Folders], None]:
    def write(folders: Folders) -> None:
        (folders.predictions / "dataset.json").unlink()
        (folders.raw / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))

    return write


def two_classes_without_dataset_json(folders: Folders) -> None:
    for folder in (folders.raw, folders.predictions):
        (folder / "dataset.json").unlink()
    cv2.imwrite(str(folders.labels / f"{CASES[0]}.png"), wire(0) * 2)


def label_values_with_a_gap(folders: Folders) -> None:
    write_predictions(folders.predictions, 0, PLAIN)
    classes({"wire": 2})(folders)
    for mask in (*folders.labels.glob("*.png"), *folders.predictions.glob("*.png")):
        cv2.imwrite(str(mask), cv2.imread(str(mask), cv2.IMREAD_UNCHANGED) * 2)


def other_class_in_the_other_run(folders: Folders) -> None:
    (folders.raw / "dataset.json").unlink()
    write_predictions(folders.root / "other", 1, {"labels": {"background": 0, "vessel": 1}})


def all_frames_predicted(folders: Folders) -> None:
    (folders.raw / "splits_final.json").write_text(json.dumps([{"val": CASES[:6]}]))


def name_that_is_no_text(folders: Folders) -> None:
    (folders.predictions / f"{CASES[0]}.png").rename(folders.predictions / os.fsdecode(b"caf\xe9.png"))


def link_that_leads_to_itself(folders: Folders) -> None:
    (folders.root / "loop.csv").symlink_to("loop.csv")


def pipe(folders: Folders) -> None:
    os.mkfifo(folders.root / "pipe.csv")


FIRST = f"predictions/{CASES[0]}"
LABEL = f"Dataset501_TCGSeg/labelsTs/{CASES[0]}.png"
TABLE = "Dataset501_TCGSeg/frames.csv"
SPLITS = "Dataset501_TCGSeg/splits_final.json"
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
    "grey_edges": (grey_edges_without_dataset_json, [], [LABEL, "no dataset.json"]),
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
    "probabilities_missing": (
        fewer_probabilities,
        ["--probabilities", "{}/predictions"],
        ["3 of 10", CASES[2], "--save_probabilities"],
    ),
    "no_probabilities_folder": (nothing, ["--probabilities", "{}/gone"], ["gone"]),
    "other_channels": (npz(np.zeros((3, 1, *SIZE))), [], [f"{CASES[3]}.npz", "(3, 40, 48)", "(1, H, W)"]),
    "probabilities_of_other_size": (npz(np.zeros((1, 1, 9, 9))), [], [f"{CASES[3]}.npz", "9 x 9"]),
    "no_probabilities": (npz(np.full((1, 1, *SIZE), 1.5)), [], [f"{CASES[3]}.npz", "0 to 1"]),
    "not_a_number": (npz(np.full((1, 1, *SIZE), np.nan)), [], [f"{CASES[3]}.npz", "0 to 1"]),
    "damaged_probabilities": (text(f"{FIRST}.npz", "PK"), [], [f"{FIRST}.npz", "cannot be read"]),
    "no_patients": (no_patients, ["--by", "patient"], ["--by patient", "frames.csv", "and 5 more"]),
    "one_patient_unknown": (one_patient_unknown, ["--by", "patient"], ["--by patient", CASES[6]]),
    "no_record_of_patients": (unlink(TABLE), ["--by", "patient"], ["--by patient", "--frames"]),
    "whose_sequence": (
        text(
            TABLE, "case,sequence,patient\n" + "".join(f"{c},a,{p}\n" for c, p in zip(CASES, "xxyyyyyyy ", strict=True))
        ),
        [],
        ["frames.csv", "several patients", CASES[9]],
    ),
    "frame_not_in_record": (text(TABLE, f"case,sequence\n{CASES[0]},a\n"), [], ["frames.csv", "9 of 10", CASES[1]]),
    "frame_twice_in_record": (text(TABLE, "case,sequence\na,a\na,b\n"), [], ["frames.csv", "twice"]),
    "spacing_is_no_length": (text(TABLE, "case,sequence,spacing_mm\na,a,-1\n"), [], ["frames.csv", "'-1'"]),
    "no_table": (nothing, ["--frames", "{}/gone.csv"], ["gone.csv"]),
    "no_splits": (nothing, ["--fold", "0"], ["--fold 0", "splits_final.json"]),
    "no_such_fold": (text(SPLITS, '[{"val": []}]'), ["--fold", "1"], ["0 to 0"]),
    "against_one_sequence": (
        no_patients,
        ["--against", "{}/predictions", "--frames", "{}/one.csv"],
        ["one group (one)", "at least 2"],
    ),
    "two_classes_without_dataset_json": (two_classes_without_dataset_json, [], ["values 1, 2", "no dataset.json"]),
    "other_class_in_the_other_run": (other_class_in_the_other_run, ["--against", "{}/other"], ["vessel", "guidewire"]),
    "label_values_with_a_gap": (label_values_with_a_gap, [], [f"{CASES[0]}.npz", "(3, H, W)"]),
    "ignore_without_value": (classes({"wire": 1, "ignore": []}), [], ["dataset.json", "no labels as"]),
    "class_without_values": (classes({"wire": []}), [], ["dataset.json", "no labels as"]),
    "endless_label": (classes({"wire": float("inf")}), [], ["dataset.json", "no labels as"]),
    "probabilities_without_pixels": (npz(np.zeros((1, 0, 0))), [], [f"{CASES[3]}.npz", "(1, 0, 0)"]),
    "probabilities_that_are_words": (npz(np.full((1, *SIZE), "a")), [], [f"{CASES[3]}.npz", "0 to 1"]),
    "splits_of_lists": (
        text(SPLITS, '[{"val": [["a"]]}]'),
        ["--fold", "0"],
        ["no folds"],
    ),
    "no_folds": (text(SPLITS, "[]"), ["--fold", "0"], ["no folds"]),
    "all_frames_predicted": (all_frames_predicted, ["--fold", "0"], ["not of the fold", "4 of 10", "predictions"]),
    "name_that_is_no_text": (name_that_is_no_text, [], ["predictions", "UTF-8", "caf"]),
    "csv_is_a_loop": (link_that_leads_to_itself, ["--csv", "{}/loop.csv"], ["loop.csv"]),
    "csv_is_a_pipe": (pipe, ["--csv", "{}/pipe.csv"], ["pipe.csv", "never replaced"]),
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


@pytest.mark.parametrize(
    "name", ["Dataset501_TCGSeg/frames.csv", "Dataset501_TCGSeg/dataset.json", f"{FIRST}.png", f"{FIRST}.npz"]
)
def test_what_is_read_is_not_replaced_even_with_force(name: str, folders: Folders, capsys) -> None:
    before = (folders.root / name).read_bytes()
    for options in (["--csv", folders.root / name], ["--against", folders.predictions, "--csv", folders.root / name]):
        folders.evaluate(*options, code=2)
        assert f"{folders.root / name} is read: name another file" in capsys.readouterr().err
    assert (folders.root / name).read_bytes() == before


def test_a_summary_of_ours_beside_the_labels_does_not_make_them_predictions(folders: Folders) -> None:
    folders.json = folders.labels / "summary.json"
    for _ in range(2):
        assert folders.evaluate()["frames"] == 10
