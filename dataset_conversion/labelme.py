"""Labelme annotations -> masks.

File format: https://github.com/wkentaro/labelme, keys ``shapes`` (``label``, ``shape_type``, ``points`` as
[x, y] in px), ``imagePath``, ``imageHeight`` and ``imageWidth`` (in px), ``imageData`` (the image file in base64, or
null).
"""

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dataset_conversion.paths import resolve_inside
from nnunet_fganet.errors import InputError
from nnunet_fganet.frames.reading import read_bytes

WIRE_LABELS = ("guidewire", "guide wire", "wire")
_LEAST_POINTS = {"polygon": 3, "linestrip": 2, "line": 2}


@dataclass(frozen=True)
class Annotation:
    """Content of a Labelme file.

    Attributes
    ----------
    path
        The file.
    image
        The image file that it belongs to, inside the source folder.
    embedded
        Bytes of the image where the file embeds it and ``image`` does not exist, else None.
    shapes
        The file's own list.
    size
        (H, W) of the image that was annotated, None where the file does not say.
    """

    path: Path
    image: Path
    embedded: bytes | None
    shapes: list[dict[str, Any]]
    size: tuple[int, int] | None = None


def read_annotation(path: Path, source: Path, image: Path | None = None) -> Annotation | None:
    """Read a Labelme file; None where the JSON file is something else (it has no ``shapes``).

    Parameters
    ----------
    path
        The file.
    source
        Folder that its image has to lie in.
    image
        The image that it belongs to, where its place tells. Then ``imagePath`` may be out of date, as it is after the
        file was moved to a folder of its own, but still not lead out of ``source``.

    Raises
    ------
    InputError
        The file is no JSON, its image lies outside ``source``, or is neither there nor embedded.
    """
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path} is no readable JSON file ({error}): save it again in Labelme.") from None
    if not isinstance(content, dict) or "shapes" not in content:
        return None
    shapes = content["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InputError(f"{path} has shapes that are no list of shapes: save it again in Labelme.")
    named = _image_path(path, source, content.get("imagePath"))
    image = named if image is None else image
    embedded = None
    if not image.is_file():
        if not content.get("imageData"):
            raise InputError(f"{path} belongs to {image}, which is missing: add the image, or take the file out.")
        embedded = _decode(path, content["imageData"])
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return Annotation(path, image, embedded, shapes, size)


def is_annotation(path: Path) -> bool:
    """Whether a JSON file is one of Labelme: it has ``shapes``."""
    try:
        content = json.loads(read_bytes(path))
    except ValueError:
        return False
    return isinstance(content, dict) and "shapes" in content


def _image_path(path: Path, source: Path, image_path: object) -> Path:
    if not isinstance(image_path, str) or not image_path:
        return path.with_suffix(".png")
    image = resolve_inside(source, path.parent, image_path)
    if image is None:
        raise InputError(
            f"{path} has the imagePath {image_path}, outside the source folder {source}: "
            "put the image beside the file and correct imagePath."
        )
    return image


def _decode(path: Path, image_data: object) -> bytes:
    try:
        return base64.b64decode(str(image_data), validate=True)
    except binascii.Error as error:
        raise InputError(f"{path} has damaged imageData ({error}): save it again in Labelme.") from None


def draw_mask(annotation: Annotation, shape: tuple[int, int], line_width: int) -> NDArray[np.uint8]:
    """Draw the wire: polygons filled, line strips with a stroke, as Labelme's own export does.

    Parameters
    ----------
    annotation
        With points in px, x to the right and y down.
    shape
        (H, W) of the frame.
    line_width
        Stroke of lines and line strips in px.

    Returns
    -------
    mask
        (H, W), 1 on the wire, 0 elsewhere.

    Raises
    ------
    InputError
        A label or a type of shape is not known, or points are missing.
    """
    canvas = Image.new("L", (shape[1], shape[0]), 0)
    pen = ImageDraw.Draw(canvas)
    for item in annotation.shapes:
        kind, points = _check_shape(annotation.path, item)
        if kind == "polygon":
            pen.polygon(points, fill=1, outline=1)
        else:
            pen.line(points, fill=1, width=line_width, joint="curve")
    return np.asarray(canvas)


def _check_shape(path: Path, item: dict[str, Any]) -> tuple[str, list[tuple[float, float]]]:
    label = str(item.get("label"))
    if label.lower().replace("_", " ").replace("-", " ") not in WIRE_LABELS:
        raise InputError(
            f"{path} has the label {label!r}, which is not known: "
            f"rename it in Labelme to one of {', '.join(WIRE_LABELS)}."
        )
    kind = str(item.get("shape_type") or "polygon")
    if kind not in _LEAST_POINTS:
        raise InputError(f"{path} has a shape of type {kind!r}: draw wires in Labelme as polygon, linestrip or line.")
    try:
        points = [(float(x), float(y)) for x, y in item["points"]]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path} has a {kind} whose points are not pairs of numbers: save it again in Labelme."
        ) from None
    if len(points) < _LEAST_POINTS[kind]:
        raise InputError(f"{path} has a {kind} of {len(points)} points: complete or delete it in Labelme.")
    return kind, points
