"""Mask files -> labels of 0 and 1."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.reading import decode_pixels, read_bytes

_NAMED_VALUES = 8  # grey values that an error names


def read_mask(path: Path, threshold: int | None) -> NDArray[np.uint8]:
    """Read a mask image as label.

    Parameters
    ----------
    path
        Image of two values (or colours), the darker of which is background; all zero where there is no wire.
    threshold
        Values from here on are wire; needed for masks of more than two values.

    Returns
    -------
    label
        (H, W), 1 on the wire, 0 elsewhere.

    Raises
    ------
    InputError
        The file is unreadable, or has other than two values and no ``threshold`` is given.
    """
    values = _brightness(decode_pixels(read_bytes(path), path))
    if threshold is not None:
        return (values >= threshold).astype(np.uint8)
    lowest, highest = int(values.min()), int(values.max())
    if lowest == highest:
        if lowest == 0:
            return np.zeros(values.shape, np.uint8)
        raise InputError(f"{path} has the value {lowest} everywhere: draw wire and background in two values.")
    wire = values == highest
    if not (wire | (values == lowest)).all():
        raise InputError(f"{path} {_name_values(values)}: a mask has two; --threshold N takes N and more as wire.")
    return wire.astype(np.uint8)


def _brightness(pixels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Grey values; of colours (as palettes have them) the sum of the channels."""
    if pixels.ndim == 2:
        return pixels
    first = pixels[..., 0]
    if all(np.array_equal(first, pixels[..., channel]) for channel in (1, 2)):
        return first
    return pixels.sum(axis=-1, dtype=np.uint32)


def _name_values(values: NDArray[np.integer]) -> str:
    found = np.unique(values)
    named = ", ".join(str(value) for value in found[:_NAMED_VALUES])
    return f"has {len(found)} grey values ({named}{', ...' if len(found) > _NAMED_VALUES else ''})"
