"""Image files -> two-dimensional grey arrays, at the depth that they were saved with."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from nnunet_fganet.errors import InputError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")


def is_image(path: Path) -> bool:
    """Whether the file's name says that it is an image which this module reads; hidden files are not."""
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def read_frame(path: Path) -> NDArray[np.integer]:
    """Read a frame as a grey array.

    Parameters
    ----------
    path
        PNG, JPEG, TIFF or BMP; grey, palette, RGB or RGBA with equal channels; 8 or 16 bit. Alpha is ignored.

    Returns
    -------
    frame
        (H, W), uint8 or uint16 as saved.

    Raises
    ------
    InputError
        The file is missing, unreadable, truncated, in colour, deeper than 16 bit, or a
        16-bit TIFF whose zero is white.
    """
    return decode_frame(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Read the file's content; raises InputError where that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions.") from None


def decode_frame(content: bytes, path: Path) -> NDArray[np.integer]:
    """Decode as :func:`read_frame` does, from bytes that were read already; ``path`` is named in errors."""
    pixels = decode_pixels(content, path)
    if pixels.ndim == 2:
        return pixels
    grey = pixels[..., 0]
    for channel in range(1, 3):
        if not np.array_equal(grey, pixels[..., channel]):
            raise InputError(f"{path} is a colour image (its channels differ): save it as a grey image.")
    return np.ascontiguousarray(grey)


def decode_pixels(content: bytes, path: Path) -> NDArray[np.integer]:
    """Decode an image file to (H, W) or (H, W, 3), uint8 or uint16; raises InputError as :func:`read_frame`."""
    try:
        with Image.open(BytesIO(content), formats=_FORMATS) as image:
            pages = getattr(image, "n_frames", 1)
            deep_colour = "16" in _raw_mode(image)  # loading the pixels clears it
            inverted = image.mode.startswith("I") and _is_white_zero(image)
            image.load()
            pixels = _to_array(image, deep_colour, content)
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is damaged or no PNG, JPEG, TIFF or BMP image: replace it, or save its frames as PNG "
            "(docs/data.md tells how)."
        ) from None
    except Exception as error:  # decoders of damaged files raise nearly everything
        raise InputError(f"{path} is damaged ({error}): replace it or take it out.") from None
    if pages > 1:
        raise InputError(f"{path} holds {pages} images: save each frame as a file of its own (docs/data.md tells how).")
    if inverted:
        raise InputError(f"{path} is a 16-bit TIFF whose zero is white: save it with black as zero, or as PNG.")
    if pixels is None:
        raise InputError(f"{path} is neither grey nor RGB with 8 or 16 bit (mode {image.mode}): save it as a grey PNG.")
    return pixels


def varies_in_transparency(content: bytes) -> bool:
    """Whether a readable image file has pixels of different transparency."""
    with Image.open(BytesIO(content), formats=_FORMATS) as image:
        if not image.has_transparency_data:
            return False
        lowest, highest = image.convert("RGBA").getchannel("A").getextrema()
        return lowest != highest


def _is_white_zero(image: Image.Image) -> bool:
    """Whether a TIFF file says so; Pillow inverts such files of 8 bit, and no others."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for how the file stores a pixel, such as ``RGB;16B``."""
    if not image.tile:
        return ""
    arguments = image.tile[0][3]  # the raw mode, alone or followed by strides and offsets
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _to_array(image: Image.Image, deep_colour: bool, content: bytes) -> NDArray[np.integer] | None:
    """Pixels of a loaded image; None where its mode is not one of ours."""
    if image.mode in ("RGB", "RGBA") and deep_colour:
        # Pillow cuts 16-bit colour to 8 bit; OpenCV keeps it. The file is whole: Pillow has just read it.
        decoded = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint16)
        return decoded[..., 2::-1]
    if image.mode in ("L", "RGB"):
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode == "LA":
        return np.asarray(image.convert("L"))
    if image.mode in ("RGBA", "RGBX", "P", "PA"):
        return np.asarray(image.convert("RGB"))
    if image.mode.startswith("I"):
        return _to_uint16(np.asarray(image))
    return None


def _to_uint16(pixels: NDArray[np.integer]) -> NDArray[np.uint16] | None:
    """16-bit grey, which Pillow may hold in 32 bit; None where values do not fit."""
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > np.iinfo(np.uint16).max:
        return None
    return pixels.astype(np.uint16)
