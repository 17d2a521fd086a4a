"""Mask files of every kind -> labels of 0 and 1."""

from pathlib import Path

import numpy as np
import pytest
from converter_sources import draw_wire, save
from PIL import Image

from dataset_conversion.masks import read_mask
from nnunet_fganet.errors import InputError

WIRE = draw_wire(0) > 0


def paint(background: tuple[int, ...], wire: tuple[int, ...]) -> np.ndarray:
    """A mask in two colours: (H, W, channels), uint8."""
    return np.where(WIRE[..., None], wire, background).astype(np.uint8)


@pytest.mark.parametrize(
    ("background", "wire"),
    [((0, 0, 0), (128, 0, 0)), ((0, 0, 0), (0, 0, 1)), ((0, 0, 128), (255, 255, 0)), ((0, 9, 0), (7, 7, 7))],
)
def test_of_two_colours_the_brighter_is_wire(
    background: tuple[int, ...], wire: tuple[int, ...], tmp_path: Path
) -> None:
    path = save(tmp_path / "mask.png", paint(background, wire))
    np.testing.assert_array_equal(read_mask(path, None), WIRE)


def test_wire_and_another_device_in_colours_of_one_brightness_are_not_one_wire(tmp_path: Path) -> None:
    """The VOC palette: a guidewire in (128, 0, 0), a catheter in (0, 128, 0)."""
    pixels = paint((0, 0, 0), (128, 0, 0))
    pixels[30:34, :4] = (0, 128, 0)
    path = save(tmp_path / "mask.png", pixels)
    with pytest.raises(InputError, match=r"mask\.png has 3 colours: a mask has two"):
        read_mask(path, None)


def test_two_colours_of_one_brightness_do_not_tell_which_is_wire(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", paint((0, 0, 255), (255, 0, 0)))
    with pytest.raises(InputError, match=r"mask\.png has two colours of one brightness"):
        read_mask(path, None)


def test_a_threshold_is_compared_with_the_brightest_channel(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", paint((60, 60, 0), (0, 100, 0)))
    np.testing.assert_array_equal(read_mask(path, 100), WIRE)
    assert not read_mask(path, 101).any()


def test_one_colour_everywhere_is_no_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", paint((0, 0, 5), (0, 0, 5)))
    with pytest.raises(InputError, match=r"mask\.png has one colour everywhere"):
        read_mask(path, None)


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_wire_that_only_transparency_shows_is_refused(mode: str, colour: int, tmp_path: Path) -> None:
    if mode == "P":
        image = Image.fromarray(WIRE.astype(np.uint8))
        image.putpalette([colour] * 6)
        image.save(tmp_path / "mask.png", transparency=0)
    else:
        image = Image.new(mode, WIRE.shape[::-1], (colour,) * len(mode))
        image.putalpha(Image.fromarray(WIRE.astype(np.uint8) * 255))
        image.save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask\.png .*transparency"):
        read_mask(tmp_path / "mask.png", None)


def test_an_empty_mask_with_an_opaque_alpha_channel_is_a_frame_without_wire(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 255)).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png", None).any()
