"""Image files in every kind that is accepted, and those that are not."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.reading import read_frame
from nnunet_fganet.frames.writing import write_png

GREY = np.random.default_rng(0).integers(0, 256, (24, 31), dtype=np.uint8)
DEEP = GREY.astype(np.uint16) * 250 + 3


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_8_bit(ending: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"frame.{ending}"
    Image.fromarray(GREY).convert(mode).save(path)
    frame = read_frame(path)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, GREY)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_ignored(mode: str, tmp_path: Path) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / "frame.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "frame.png"), GREY)


def test_reversed_palette(tmp_path: Path) -> None:
    image = Image.fromarray(255 - GREY)
    image.putpalette([value for grey in range(255, -1, -1) for value in (grey, grey, grey)])
    image.save(tmp_path / "frame.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "frame.png"), GREY)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(mode: str, tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(GREY, (0, 0), 3)
    Image.fromarray(smooth).convert(mode).save(tmp_path / "frame.jpg", quality=95)
    assert np.abs(read_frame(tmp_path / "frame.jpg").astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit(ending: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / f"frame.{ending}"
    assert cv2.imwrite(str(path), DEEP if channels == 1 else np.dstack([DEEP] * 3))
    frame = read_frame(path)
    assert frame.dtype == np.uint16
    np.testing.assert_array_equal(frame, DEEP)


@pytest.mark.parametrize("width", [388, 512, 540, 720])
@pytest.mark.parametrize(("ending", "options"), [("bmp", {}), ("tif", {"compression": "tiff_lzw"})])
def test_8_bit_colour_of_any_width_stays_8_bit(ending: str, options: dict, width: int, tmp_path: Path) -> None:
    """Row strides and offsets, such as the 2160 bytes of 720 pixels, say nothing about depth."""
    grey = np.random.default_rng(width).integers(0, 256, (19, width), dtype=np.uint8)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / f"frame.{ending}", **options)
    frame = read_frame(tmp_path / f"frame.{ending}")
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, grey)


def test_16_bit_channels_that_differ_in_the_low_byte(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "frame.png"), np.dstack([DEEP, DEEP, DEEP + 1]))
    with pytest.raises(InputError, match=r"frame\.png is a colour image"):
        read_frame(tmp_path / "frame.png")


@pytest.mark.parametrize(("photometric", "is_refused"), [(0, True), (1, False)])
def test_16_bit_tiff_whose_zero_is_white_is_refused(photometric: int, is_refused: bool, tmp_path: Path) -> None:
    path = tmp_path / "frame.tif"
    path.write_bytes(as_tiff(DEEP, photometric))
    if is_refused:
        with pytest.raises(InputError, match=r"frame\.tif is a 16-bit TIFF whose zero is white"):
            read_frame(path)
    else:
        np.testing.assert_array_equal(read_frame(path), DEEP)


def as_tiff(pixels: np.ndarray, photometric: int) -> bytes:
    """An uncompressed TIFF file of one strip, by the specification (TIFF 6.0, section 3 to 6)."""
    strip = pixels.astype("<u2").tobytes()
    height, width = pixels.shape
    offset = 8 + 2 + 9 * 12 + 4
    short, long = 3, 4
    entries = [
        (256, long, width),
        (257, long, height),
        (258, short, 16),
        (259, short, 1),
        (262, short, photometric),
        (273, long, offset),
        (277, short, 1),
        (278, long, height),
        (279, long, len(strip)),
    ]
    header = b"II" + struct.pack("<HIH", 42, 8, len(entries))
    values = {short: "<HHIHxx", long: "<HHII"}
    directory = b"".join(struct.pack(values[kind], tag, kind, 1, value) for tag, kind, value in entries)
    return header + directory + bytes(4) + strip


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "frame.tif")
    with pytest.raises(InputError, match=r"frame\.tif is neither grey nor RGB"):
        read_frame(tmp_path / "frame.tif")


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_truncated(ending: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"frame.{ending}"
    Image.fromarray(GREY).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"frame\.{ending} is damaged"):
        read_frame(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"frame\.png cannot be read"):
        read_frame(tmp_path / "frame.png")


@pytest.mark.parametrize("pixels", [GREY, DEEP])
def test_written_frames_read_back(pixels: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "frame.png", pixels)
    frame = read_frame(tmp_path / "frame.png")
    assert frame.dtype == pixels.dtype
    np.testing.assert_array_equal(frame, pixels)
