"""Pictures inside the page, decoded again by Pillow."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from nnunet_fganet.report import pictures


def decoded(uri: str, mode: str) -> np.ndarray:
    kind, content = uri.split(",", 1)
    assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert(mode))


@pytest.fixture
def masks() -> tuple[np.ndarray, np.ndarray]:
    label, found = np.zeros((40, 50), bool), np.zeros((40, 50), bool)
    label[10, 5:30] = True
    found[10, 20:45] = True
    return label, found


def test_errors_are_coloured_pixel_by_pixel_and_transparent_elsewhere(masks):
    label, found = masks
    picture = decoded(pictures.errors_uri(label, found), "RGBA")
    assert picture.shape == (40, 50, 4)
    for mask, colour in (
        (label & found, pictures.FOUND),
        (label & ~found, pictures.MISSED),
        (found & ~label, pictures.FALSE),
    ):
        assert mask.any() and (picture[mask] == [*pictures.rgb(colour), 255]).all()
    assert (picture[~(label | found), 3] == 0).all()


def test_colours_of_errors_differ_in_brightness_for_those_who_see_no_colour():
    luminance = sorted(
        np.dot(pictures.rgb(colour), [0.299, 0.587, 0.114])
        for colour in (pictures.FOUND, pictures.MISSED, pictures.FALSE)
    )
    assert np.diff(luminance).min() > 25


def test_the_outline_of_a_label_leaves_the_wire_itself_free(masks):
    label, _ = masks
    drawn = decoded(pictures.label_uri(label), "RGBA")[..., 3] > 0
    assert not (drawn & label).any()
    assert drawn[9, 4:31].all() and drawn[11, 4:31].all() and drawn.sum() == 2 * 27 + 2


def test_a_mask_is_small(masks):
    assert len(pictures.errors_uri(*masks)) < 500


def test_a_frame_keeps_its_pixels_up_to_a_limit():
    noise = np.random.default_rng(0).integers(0, 65535, (64, 80), dtype=np.uint16)
    assert decoded(pictures.frame_uri(noise), "L").shape == (64, 80)
    assert decoded(pictures.frame_uri(np.tile(noise, (32, 20))), "L").shape == (1024, 800)


def test_a_wire_one_pixel_wide_survives_in_a_thumbnail():
    label = np.zeros((1000, 1000), bool)
    label[np.arange(1000), np.arange(1000)] = True
    frame = np.full((1000, 1000), 100, np.uint8)
    picture = decoded(pictures.thumbnail_uri(frame, label, np.zeros_like(label)), "RGB").astype(int)
    assert picture.shape == (128, 128, 3)
    diagonal = picture[np.arange(128), np.arange(128)]
    assert (diagonal[:, 0] - diagonal[:, 2] > 60).all()  # yellow, which grey is not


def test_a_map_shows_the_frame_where_it_is_zero_and_the_outline_of_the_wire(masks):
    frame = np.full((40, 50), 80, np.uint8)
    cam = np.zeros((40, 50), np.float32)
    cam[30:, 40:] = 1
    picture = decoded(pictures.map_uri(frame, cam, masks[0]), "RGB").astype(int)
    assert np.ptp(picture[:5, :5], axis=-1).max() < 8
    assert np.ptp(picture[34:, 44:], axis=-1).min() > 100
    assert (picture[9, 6:29, 2] - picture[9, 6:29, 0] > 60).all()
