"""Frames, masks and maps as images inside the page (data URIs), as small as they can be without losing a thin wire."""

import base64
import io
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from nnunet_fganet.evaluation.masks import Mask
from nnunet_fganet.explanation.overlay import WIRE, as_grey, blend

# Told apart by readers who do not see red or green, and by their brightness (Okabe and Ito, 2008).
FOUND, MISSED, FALSE = "#56b4e9", "#f0e442", "#e8590c"
LABEL, PREDICTION = "#ffffff", "#ff6ec7"
LONGEST_SIDE = 1024
"""Of a frame's picture, in pixels; masks keep their size."""
THUMBNAIL = 128
_JPEG_QUALITY = 82

Colours = npt.NDArray[np.uint8]


def frame_uri(frame: npt.NDArray[np.integer]) -> str:
    """A frame, (H, W), stretched to its own grey values, as JPEG of at most 1024 px a side."""
    return _jpeg(_fitted(_as_bytes(as_grey(frame)), LONGEST_SIDE))


def label_uri(label: Mask) -> str:
    """Only the outline of a label, (H, W): the pixels just outside of it."""
    return layer_uri(label.shape, {LABEL: _outline(label)})


def prediction_uri(found: Mask) -> str:
    """A predicted mask, (H, W)."""
    return layer_uri(found.shape, {PREDICTION: found})


def errors_uri(label: Mask, found: Mask) -> str:
    """Found, missed and false pixels of two masks (H, W), each in its colour."""
    return layer_uri(label.shape, {FOUND: label & found, MISSED: label & ~found, FALSE: found & ~label})


def layer_uri(shape: tuple[int, ...], masks: Mapping[str, Mask]) -> str:
    """Masks in one colour each, transparent elsewhere, as indexed PNG to lay over a frame."""
    indices = np.zeros(shape, np.uint8)
    for number, mask in enumerate(masks.values(), 1):
        indices[mask] = number
    image = Image.fromarray(indices, mode="P")
    image.putpalette([0, 0, 0, *(value for colour in masks for value in rgb(colour))])
    return _encoded(image, "PNG", bits=2, transparency=0, optimize=True)


def thumbnail_uri(frame: npt.NDArray[np.integer], label: Mask, found: Mask) -> str:
    """A frame of at most 128 px a side with its errors; a thin wire stays visible, whatever the scale."""
    grey = _fitted(_as_bytes(as_grey(frame)), THUMBNAIL)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for colour, mask in ((FOUND, label & found), (MISSED, label & ~found), (FALSE, found & ~label)):
        picture[_shrunk(mask, grey.shape)] = rgb(colour)
    return _jpeg(picture)


def map_uri(frame: npt.NDArray[np.integer], cam: npt.NDArray[np.floating], wire: Mask) -> str:
    """A Grad-CAM++ map over its frame, (H, W), with the outline of a wire."""
    picture = _as_bytes(blend(as_grey(frame), cam))
    picture[_outline(wire)] = rgb(WIRE)
    return _jpeg(_fitted(picture, LONGEST_SIDE))


def rgb(colour: str) -> tuple[int, ...]:
    """``#rrggbb`` as three numbers."""
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def _outline(mask: Mask) -> Mask:
    """Pixels outside of a mask that touch it."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~mask


def _as_bytes(picture: npt.NDArray[np.floating]) -> Colours:
    return (255 * picture + 0.5).astype(np.uint8)


def _fitted(picture: Colours, longest: int) -> Colours:
    """Shrink a picture (H, W) or (H, W, 3) so that no side is longer; smaller ones stay as they are."""
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shrunk(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Shrink a mask to a smaller shape; a pixel is set where any of the pixels that it stands for is."""
    rows, columns = np.nonzero(mask)
    small = np.zeros(shape, bool)
    small[rows * shape[0] // mask.shape[0], columns * shape[1] // mask.shape[1]] = True
    return small


def _jpeg(picture: Colours) -> str:
    # Colours of single pixels survive only without chroma subsampling.
    return _encoded(Image.fromarray(picture), "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)


def _encoded(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
