"""Labelme annotations: polygons, strokes, embedded images."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from converter_sources import SIZE, convert, draw_frame, draw_wire, save
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import io
from skimage.measure import label as connected

from dataset_conversion.labelme import Annotation, draw_mask

POLYGON = {"label": "guidewire", "shape_type": "polygon", "points": [[10, 5], [13, 5], [13, 30], [10, 30]]}
STRIP = {"label": "Guide_Wire", "shape_type": "linestrip", "points": [[10.0, 5.0], [10.0, 30.0], [30.0, 30.0]]}


def write_annotation(folder: Path, name: str, shapes: list[dict], embed: bool = False) -> None:
    image = save(folder / f"{name}.png", draw_frame(len(name)))
    data = base64.b64encode(image.read_bytes()).decode() if embed else None
    if embed:
        image.unlink()
    content = {"version": "5.4.1", "shapes": shapes, "imagePath": image.name, "imageData": data}
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("embed", [False, True])
def test_labelme_folder(tmp_path: Path, out: Path, embed: bool) -> None:
    for number in range(5):
        write_annotation(tmp_path / "in", f"s{number}_1", [POLYGON], embed)
    folder = convert(tmp_path / "in", out)
    label = io.imread(folder / "labelsTr" / "s3_1.png")
    assert label.max() == 1
    assert label[5:31, 10:14].all()
    assert label.sum() == 26 * 4
    np.testing.assert_array_equal(io.imread(folder / "imagesTr" / "s3_1_0000.png"), draw_frame(4))


def test_a_data_set_inside_its_source_is_not_searched(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number in range(5):
        write_annotation(source, f"s{number}_1", [POLYGON])
    for _ in range(2):
        folder = convert(source, source / "raw", "--force")
    assert len(list((folder / "imagesTr").iterdir())) == 5


def test_what_masks_were_exported_from_may_lie_beside_them(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in"
    for number in range(5):
        write_annotation(source / "labelme", f"s{number}_1", [STRIP])
        (source / "labelme" / f"s{number}_1.png").unlink()
        save(source / "images" / f"s{number}_1.png", draw_frame(number))
        save(source / "masks" / f"s{number}_1.png", draw_wire(number))
    folder = convert(source, out)
    np.testing.assert_array_equal(io.imread(folder / "labelsTr" / "s3_1.png"), draw_wire(3) > 0)


def test_labelme_files_beside_and_below(tmp_path: Path, out: Path) -> None:
    for number in range(5):
        save(tmp_path / "in" / "images" / f"s{number}_1.png", draw_frame(number))
        content = {"shapes": [STRIP], "imagePath": f"..\\images\\s{number}_1.png", "imageData": None}
        labels = tmp_path / "in" / "labels"
        labels.mkdir(exist_ok=True)
        (labels / f"s{number}_1.json").write_text(json.dumps(content))
    folder = convert(tmp_path / "in", out, "--line-width", 1)
    assert io.imread(folder / "labelsTr" / "s0_1.png").sum() == 26 + 20


@pytest.mark.parametrize("image_path", ["s{}_1.png", "../frames/s{}_1.jpg", None])
def test_labelme_files_in_labels_belong_to_the_images_of_their_names(
    tmp_path: Path, out: Path, image_path: str | None
) -> None:
    """Files that were moved to ``labels`` keep the imagePath of the place that they were saved in."""
    labels = tmp_path / "in" / "labels"
    labels.mkdir(parents=True)
    for number in range(5):
        save(tmp_path / "in" / "images" / f"s{number}_1.png", draw_frame(number))
        named = image_path.format(number) if image_path else None
        content = {"shapes": [STRIP], "imagePath": named, "imageData": None}
        (labels / f"s{number}_1.json").write_text(json.dumps(content))
    folder = convert(tmp_path / "in", out)
    assert io.imread(folder / "labelsTr" / "s0_1.png").any()
    np.testing.assert_array_equal(io.imread(folder / "imagesTr" / "s3_1_0000.png"), draw_frame(3))


def annotation(shapes: list[dict]) -> Annotation:
    return Annotation(Path("a.json"), Path("a.png"), None, shapes)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_line_width_is_the_stroke_in_pixels(width: int) -> None:
    mask = draw_mask(annotation([STRIP | {"points": [[10, 5], [10, 30]]}]), (SIZE, SIZE), width)
    assert mask[15].sum() == width


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(2, 37), st.floats(2, 37)), min_size=2, max_size=6), st.integers(1, 4))
def test_a_stroke_is_in_one_piece(points: list[tuple[float, float]], width: int) -> None:
    mask = draw_mask(annotation([STRIP | {"points": points}]), (SIZE, SIZE), width)
    assert connected(mask, connectivity=2).max() <= 1


def test_no_shapes_is_an_empty_mask() -> None:
    assert not draw_mask(annotation([]), (SIZE, SIZE), 3).any()
