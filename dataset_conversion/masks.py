"""Mask files -> labels of 0 and 1."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.reading import decode_pixels, read_bytes, varies_in_transparency

_NAMED_VALUES = 8  # grey values that an error names


def read_mask(path: Path, threshold: int | None) -> NDArray[np.uint8]:
    """Read a mask image as label.

    Parameters
    ----------
    path
        Image of two values (or colours), the darker of which is background; all zero where there is no wire.
    threshold
        Values (of colours: of the brightest channel) from here on are wire; needed for masks of more than two.

    Returns
    -------
    label
        (H, W), 1 on the wire, 0 elsewhere.

    Raises
    ------
    InputError
        The file is unreadable, or without ``threshold``: has other than two values, or two equally bright colours.
    """
    content = read_bytes(path)
    pixels = decode_pixels(content, path)
    if threshold is not None:
        brightest = pixels if pixels.ndim == 2 else pixels.max(axis=-1)
        return (brightest >= threshold).astype(np.uint8)
    values = _packed(pixels)
    lowest, highest = int(values.min()), int(values.max())
    if lowest == highest:
        if varies_in_transparency(content):
            raise InputError(f"{path} shows the wire by transparency alone: save it in white on black.")
        if lowest == 0:
            return np.zeros(values.shape, np.uint8)
        named = "one colour" if _is_colour(values) else f"the value {lowest}"
        raise InputError(f"{path} has {named} everywhere: draw wire and background in two values.")
    is_highest = values == highest
    if not (is_highest | (values == lowest)).all():
        raise InputError(f"{path} {_name_values(values)}: a mask has two; --threshold N takes N and more as wire.")
    if _brightness(lowest) == _brightness(highest):
        raise InputError(f"{path} has two colours of one brightness: draw the wire in white on black.")
    wire = is_highest if _brightness(lowest) < _brightness(highest) else ~is_highest
    return wire.astype(np.uint8)


def _packed(pixels: NDArray[np.integer]) -> NDArray[np.integer]:
    """One number a pixel: its grey value, or where a pixel has a colour, the channels in 16 bits each."""
    if pixels.ndim == 2:
        return pixels
    first = pixels[..., 0]
    if all(np.array_equal(first, pixels[..., channel]) for channel in (1, 2)):
        return first
    red, green, blue = np.moveaxis(pixels.astype(np.uint64), -1, 0)
    return red << 32 | green << 16 | blue


def _is_colour(values: NDArray[np.integer]) -> bool:
    return values.dtype == np.uint64


def _brightness(packed: int) -> int:
    """Sum of the channels."""
    return sum(packed >> shift & 0xFFFF for shift in (0, 16, 32))


def _name_values(values: NDArray[np.integer]) -> str:
    found = np.unique(values)
    if _is_colour(values):
        return f"has {len(found)} colours"
    named = ", ".join(str(value) for value in found[:_NAMED_VALUES])
    return f"has {len(found)} grey values ({named}{', ...' if len(found) > _NAMED_VALUES else ''})"
