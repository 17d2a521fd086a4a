"""What the pictures show."""

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nnunet_fganet.explanation.explaining import Explanation
from nnunet_fganet.explanation.layers import Layer
from nnunet_fganet.explanation.overlay import (
    COLOURS,
    OPACITY,
    OPAQUE_FROM,
    WIRE,
    as_grey,
    blend,
    write_explanation,
)


def explanation(rows, columns, found=True):
    cam, prediction = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), bool)
    cam[rows // 2 :] = np.linspace(0, 1, columns)
    prediction[rows // 4, 5:-5] = found
    return Explanation(cam, prediction, Layer("decoder.stages.2.sda", "SDA", 8, rows // 4, columns // 4), 10)


def test_nothing_lies_over_the_frame_where_the_map_is_zero():
    grey = np.linspace(0, 1, 16).reshape(4, 4)
    np.testing.assert_allclose(blend(grey, np.zeros((4, 4))), np.repeat(grey[..., None], 3, axis=2))


def test_the_stronger_the_more_opaque_up_to_a_limit():
    strengths = np.array([0, OPAQUE_FROM / 2, OPAQUE_FROM, 1])
    white, black = blend(np.ones(4), strengths), blend(np.zeros(4), strengths)
    np.testing.assert_allclose((white - black)[:, 0], [1, 1 - OPACITY / 2, 1 - OPACITY, 1 - OPACITY])
    np.testing.assert_allclose(black[3], OPACITY * np.array(COLOURS(1.0)[:3]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_outside_the_window_does_not_set_the_contrast(dtype):
    frame = np.zeros((40, 40), dtype)
    frame[10:30, 10:30] = np.linspace(100, 200, 400).reshape(20, 20)
    grey = as_grey(frame)
    assert grey.min() == 0 and grey.max() == 1
    assert grey[10:30, 10:30].std() > 0.25
    assert as_grey(np.full((4, 4), 7, dtype)).max() == 0


def test_any_file_name_is_a_title_and_a_single_row_a_frame(tmp_path):
    row = explanation(1, 80)
    write_explanation(tmp_path / "row.png", np.ones((1, 80), np.uint8), row, "$x_$.png")
    write_explanation(tmp_path / "formula.png", np.ones((1, 80), np.uint8), row, r"$\alpha$.png")
    assert cv2.imread(str(tmp_path / "row.png")) is not None and cv2.imread(str(tmp_path / "formula.png")) is not None


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (40, 120), (700, 700)])
def test_the_picture_shows_every_pixel_of_the_frame_and_outlines_the_wire(tmp_path, rows, columns):
    frame = np.random.default_rng(0).integers(1, 255, (rows, columns)).astype(np.uint8)
    write_explanation(tmp_path / "with.png", frame, explanation(rows, columns), "frame.png")
    write_explanation(tmp_path / "without.png", frame, explanation(rows, columns, found=False), "frame.png")
    pictures = [cv2.imread(str(tmp_path / name))[..., ::-1] for name in ("with.png", "without.png")]
    assert pictures[0].shape[1] > 2 * columns
    wire = [(np.abs(picture - 255 * np.array(to_rgb(WIRE))) < 40).all(axis=2).sum() for picture in pictures]
    assert wire[0] > 100 and wire[1] == 0
