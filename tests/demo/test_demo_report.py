"""Scores, table and picture of the demo, from files on disk."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from nnunet_fganet.demo import picture
from nnunet_fganet.demo.scores import Latency, read_mask, score_frames, table_of, write_scores
from nnunet_fganet.errors import InputError

LATENCY = Latency(network_ms=12.4, frame_to_mask_ms=20.6)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Labels and predictions of three frames: perfect, half found, and no wire with a false alarm."""
    wire, empty = np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    wire[10:12, 0:32] = 1
    half, alarm = wire.copy(), empty.copy()
    half[:, 16:] = 0
    alarm[20:22, 0:16] = 1
    labels, predictions = tmp_path / "labels", tmp_path / "predictions"
    for folder, masks in ((labels, (wire, wire, empty)), (predictions, (wire, half, alarm))):
        folder.mkdir()
        for name, mask in zip("abc", masks, strict=True):
            cv2.imwrite(str(folder / f"{name}.png"), mask)
    return labels, predictions


def test_scores_pooled_and_averaged_as_the_table_says(folders: tuple[Path, Path]) -> None:
    scores = score_frames(*folders)
    assert [score.case for score in scores] == ["a", "b", "c"]
    assert [score.counts.dice for score in scores] == [1.0, pytest.approx(2 / 3), 0.0]
    table = table_of(scores, LATENCY, "a machine")
    # TP 64 + 32, FP 32, FN 32
    for expected in ("0.750", "0.556", "0.833", "12 ms", "21 ms", "3 frames", "2 of them with a wire", "a machine"):
        assert expected in table


def test_the_table_is_markdown_of_even_width(folders: tuple[Path, Path]) -> None:
    rows = [line for line in table_of(score_frames(*folders), LATENCY, "").splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert {row.count("|") for row in rows} == {3}


def test_one_line_a_frame_is_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.csv", score_frames(*folders))
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert rows[1] == rows[1] | {"dice": "0.6667", "true_positive": "32", "false_positive": "0", "false_negative": "32"}


def test_a_frame_without_a_prediction_is_an_error_that_names_it(folders: tuple[Path, Path]) -> None:
    labels, predictions = folders
    (predictions / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png"):
        score_frames(labels, predictions)


def test_a_colour_picture_is_no_mask(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r"colour\.png"):
        read_mask(tmp_path / "colour.png")


def test_overlay_colours_what_was_found_missed_and_false() -> None:
    frame = np.full((1, 4), 100, np.uint8)
    coloured = picture.overlay(frame, np.array([[1, 1, 0, 0]], np.uint8), np.array([[1, 0, 1, 0]], np.uint8))[0]
    plain = np.full(3, 100 / 255)
    for pixel, colour in zip(coloured, (picture.FOUND, picture.MISSED, picture.FALSE), strict=False):
        assert pixel == pytest.approx((1 - picture.OPACITY) * plain + picture.OPACITY * np.array(colour))
    assert coloured[3] == pytest.approx(plain)


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (3, [0, 4, 9]), (20, list(range(10)))])
def test_evenly_spaced_frames(count: int, expected: list[int]) -> None:
    assert picture.evenly_spaced(range(10), count) == expected


def test_the_contact_sheet_is_a_picture_with_every_frame(tmp_path: Path) -> None:
    bright, mask = np.full((32, 48), 200, np.uint8), np.zeros((32, 48), np.uint8)
    mask[10:12, 5:40] = 1
    frames = [picture.PicturedFrame(f"frame_{n}", bright, mask, mask, 1.0) for n in range(3)]
    picture.write_contact_sheet(tmp_path / "sheet.png", frames)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] > 1000
    greens = np.all(np.abs(sheet[..., ::-1] / 255 - (0.25 * 200 / 255 + 0.75 * np.array(picture.FOUND))) < 0.03, axis=2)
    assert cv2.connectedComponents(greens.astype(np.uint8))[0] - 1 >= 6  # label and prediction of three frames
