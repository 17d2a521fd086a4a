"""Which frames have pictures, and what is shown of them."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from nnunet_fganet.demo.picture import evenly_spaced
from nnunet_fganet.errors import InputError
from nnunet_fganet.report import gallery
from nnunet_fganet.report.document import Prediction, RunDocument, read_run, worst_first
from nnunet_fganet.report.metrics import OF_A_FRAME


def prediction(entry: int, case: str, dice: float, cldice: float = 0.5, wire: int = 9) -> Prediction:
    figures = {"case": case, "class": "guidewire", "dice": dice, "cldice": cldice}
    return Prediction(entry, {"seed": 0}, figures | {"true_positive": 0, "false_negative": wire})


def with_a_second_seed(run: RunDocument) -> RunDocument:
    """The same predictions as of two seeds, of which the second has half the Dice."""
    second = [
        Prediction(each.entry, {**each.run, "seed": 1}, {**each.figures, "dice": each.dice / 2})
        for each in run.predictions
    ]
    return replace(run, predictions=run.predictions + second)


def test_the_worst_and_the_best_of_every_entry_have_pictures():
    first = [prediction(0, f"case{number}", number / 10) for number in range(10)]
    second = [prediction(1, f"case{number}", abs(number - 5) / 10) for number in range(10)]
    assert gallery.pictured_cases(first, 1) == {"case0", "case9"}
    assert gallery.pictured_cases(first + second, 1) == {"case0", "case9", "case5"}
    assert len(gallery.pictured_cases(first, 99)) == 10


def test_equal_dice_is_decided_by_cldice_and_several_seeds_count_as_one_frame():
    frames = [prediction(0, "a", 0.5, 0.2), prediction(0, "b", 0.5, 0.1), prediction(0, "b", 0.5, 0.15)]
    assert gallery.pictured_cases([*frames, prediction(0, "c", 0.9)], 1) == {"b", "c"}


def test_the_best_frames_have_wire_as_far_as_there_are_any():
    frames = [prediction(0, f"empty{number}", 1.0, 1.0, wire=0) for number in range(5)]
    frames += [prediction(0, "good", 0.9), prediction(0, "bad", 0.2), prediction(0, "alarm", 0.0, wire=0)]
    assert gallery.pictured_cases(frames, 1) == {"alarm", "good"}
    assert gallery.pictured_cases(frames, 2) == {"alarm", "bad", "good"}
    assert gallery.pictured_cases(frames, 3) == {"alarm", "bad", "good", "empty4"}


def test_the_page_has_one_order_of_what_is_worst(run_folder):
    run = read_run(run_folder)
    run.predictions.sort(key=lambda each: each.case, reverse=True)
    for each in run.predictions:
        each.figures["dice"] = 0.5
        each.figures["cldice"] = 0.1 if each.case == "seq1_001" else 0.6
    rows = gallery.payload(run, gallery.FrameFiles(run), set())["rows"]
    assert [row["case"] for row in rows[:3]] == ["seq1_001"] * 3
    assert [row["case"] for row in rows] == [each.case for each in sorted(run.predictions, key=worst_first)]
    assert "seq1_001" in gallery.pictured_cases(run.predictions, 1)


def test_rows_are_worst_first_and_only_chosen_frames_have_pictures(run_folder):
    run = read_run(run_folder)
    data = gallery.payload(run, gallery.FrameFiles(run), {"seq1_000", "seq2_001"})
    dice = [row["values"][0] for row in data["rows"]]
    assert dice == sorted(dice) and len(dice) == 27
    assert {row["case"] for row in data["rows"] if "errors" in row} == {"seq1_000", "seq2_001"} == set(data["frames"])
    assert all(len(row["values"]) == len(OF_A_FRAME) for row in data["rows"])


def test_false_and_missed_pixels_are_those_of_the_masks(run_folder):
    run = read_run(run_folder)
    files = gallery.FrameFiles(run)
    for each in run.predictions:
        masks = files.read(each)
        assert each.figures["false_positive"] == np.count_nonzero(masks.found & ~masks.label)
        assert each.figures["false_negative"] == np.count_nonzero(masks.label & ~masks.found)


def test_masks_that_changed_since_they_were_measured_are_not_shown(run_folder, tmp_path):
    run = read_run(Path(shutil.copytree(run_folder, tmp_path / "run")))
    wired = next(each for each in run.predictions if each.has_wire)
    file = run.prediction_file(wired)
    mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(file), np.roll(mask, 7, axis=0))
    with pytest.raises(InputError, match="has changed since it was measured"):
        gallery.FrameFiles(run).read(wired)


def test_of_very_many_failures_the_largest_are_drawn_and_all_are_counted(run_folder, tmp_path):
    own = Path(shutil.copytree(run_folder, tmp_path / "run"))
    run = read_run(own)
    each = next(each for each in run.predictions if each.case == "seq1_000")
    dots = np.zeros((96, 96), np.uint8)
    dots[::4, :96] = np.arange(96) % 8 < 5
    dots[:4, :40] = 1
    cv2.imwrite(str(run.prediction_file(each)), dots)
    label = cv2.imread(str(run.label_file(each)), cv2.IMREAD_UNCHANGED) > 0
    pixels = {
        "true_positive": label & (dots > 0),
        "false_positive": ~label & (dots > 0),
        "false_negative": label & (dots == 0),
    }
    each.figures.update({key: np.count_nonzero(mask) for key, mask in pixels.items()})
    row = next(row for row in gallery.payload(run, gallery.FrameFiles(run), {"seq1_000"})["rows"] if "marks" in row)
    assert row["entry"] == each.entry
    assert len(row["marks"]) == gallery.MARKS < row["counts"]["false"]
    assert row["marks"][0]["r"] == max(mark["r"] for mark in row["marks"]) > 19


@pytest.mark.parametrize(("rows", "columns"), [((10, 20), (30, 60)), ((0, 5), (0, 5)), ((195, 200), (90, 100))])
def test_a_box_around_the_wire_holds_it_and_lies_in_the_frame(rows, columns):
    wire = np.zeros((200, 120), bool)
    wire[slice(*rows), slice(*columns)] = True
    left, top, width, height = gallery.wire_box(wire)
    assert width == height >= 50
    assert 0 <= left <= columns[0] and columns[1] <= left + width <= 120
    assert 0 <= top <= rows[0] and rows[1] <= top + height <= 200


def test_a_wire_through_the_whole_frame_or_none_is_shown_in_the_whole_frame():
    wire = np.zeros((200, 120), bool)
    assert gallery.wire_box(wire) == [0, 0, 120, 200]
    wire[:, 60] = True
    assert gallery.wire_box(wire) == [0, 0, 120, 200]


def test_sequences_come_worst_first_with_pictures_through_time(run_folder):
    run = read_run(run_folder)
    shown = gallery.sequences_of(run, gallery.FrameFiles(run))
    assert len(shown) == 3
    assert [one["dice"] for one in shown] == sorted(one["dice"] for one in shown)
    own = next(one for one in shown if one["name"] == "seq2")
    assert [thumbnail["case"] for thumbnail in own["thumbnails"]] == [f"seq2_{number:03d}" for number in range(3)]
    assert evenly_spaced(list(range(70)), gallery.THUMBNAILS)[-1] == 69


def test_a_thumbnail_says_of_which_class_and_seed_it_is_where_there_are_several(run_folder):
    alone = read_run(run_folder)
    run = with_a_second_seed(alone)
    [one, *_] = gallery.sequences_of(alone, gallery.FrameFiles(alone))
    [two, *_] = gallery.sequences_of(run, gallery.FrameFiles(run))
    assert two["dice"] == pytest.approx(0.75 * one["dice"])
    for thumbnail, same in zip(two["thumbnails"], one["thumbnails"], strict=True):
        assert (thumbnail["which"], same["which"]) == ("seed 0", "")
        assert thumbnail["seed"] == 0 and thumbnail["dice"] == same["dice"]
        [shown] = [
            each
            for each in run.predictions
            if (each.entry, each.case, each.wire_class, each.seed)
            == tuple(thumbnail[key] for key in ("entry", "case", "class", "seed"))
        ]
        assert shown.dice == thumbnail["dice"]


def test_a_class_that_the_data_set_lost_is_named(run_folder):
    run = read_run(run_folder)
    files = gallery.FrameFiles(run)
    found = run.predictions[0]
    other = Prediction(found.entry, found.run, {**found.figures, "class": "catheter"})
    with pytest.raises(InputError, match="has no class catheter any more"):
        files.read(other)
