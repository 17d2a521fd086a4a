"""Everything that can be wrong with what ``fganet evaluate`` is given: one sentence, exit code 2, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_folders import CASES, SIZE, Folders, wire

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
    "frame_not_in_record": (text(TABLE, f"case,sequence\n{CASES[0]},a\n"), [], ["frames.csv", "9 of 10", CASES[1]]),
    "frame_twice_in_record": (text(TABLE, "case,sequence\na,a\na,b\n"), [], ["frames.csv", "twice"]),
    "spacing_is_no_length": (text(TABLE, "case,sequence,spacing_mm\na,a,-1\n"), [], ["frames.csv", "'-1'"]),
    "no_table": (nothing, ["--frames", "{}/gone.csv"], ["gone.csv"]),
    "no_splits": (nothing, ["--fold", "0"], ["--fold 0", "splits_final.json"]),
    "no_such_fold": (text("Dataset501_TCGSeg/splits_final.json", '[{"val": []}]'), ["--fold", "1"], ["0 to 0"]),
    "against_one_sequence": (
        no_patients,
        ["--against", "{}/predictions", "--frames", "{}/one.csv"],
        ["one group (one)", "at least 2"],
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
