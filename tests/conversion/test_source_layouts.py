"""Every layout that frames are accepted in."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from converter_sources import convert, draw_frame, draw_wire, save
from PIL import Image
from skimage import io


def read_column(folder: Path, column: str) -> dict[str, str]:
    with (folder / "frames.csv").open(newline="") as file:
        return {row["source"]: row[column] for row in csv.DictReader(file)}


def write_pairs(places: list[tuple[str, str]], root: Path) -> None:
    for seed, (image, mask) in enumerate(places):
        save(root / image, draw_frame(seed))
        save(root / mask, draw_wire(seed))


@pytest.mark.parametrize(
    ("images", "masks"), [("images", "masks"), ("images", "labels"), ("Images", "Masks"), ("IMAGES", "Labels")]
)
def test_flat_folders(tmp_path: Path, out: Path, images: str, masks: str) -> None:
    write_pairs(
        [(f"{images}/s{s}_{f}.png", f"{masks}/s{s}_{f}.png") for s in range(5) for f in range(2)], tmp_path / "in"
    )
    assert set(read_column(convert(tmp_path / "in", out), "sequence").values()) == {"s0", "s1", "s2", "s3", "s4"}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("run{s}/images/{f}.png", "run{s}/masks/{f}.png"),
        ("images/run{s}/{f}.png", "masks/run{s}/{f}.png"),
        ("train/run{s}/images/{f}.png", "train/run{s}/masks/{f}.png"),
    ],
)
def test_folders_by_sequence(tmp_path: Path, out: Path, image: str, mask: str) -> None:
    write_pairs([(image.format(s=s, f=f), mask.format(s=s, f=f)) for s in range(5) for f in range(2)], tmp_path / "in")
    folder = convert(tmp_path / "in", out)
    assert set(read_column(folder, "sequence").values()) == {f"run{s}" for s in range(5)}
    assert read_column(folder, "case")[image.format(s=3, f=1)] == "run3_1"
    np.testing.assert_array_equal(io.imread(folder / "labelsTr" / "run3_1.png"), draw_wire(7) // 255)


def test_manifest(tmp_path: Path, out: Path) -> None:
    write_pairs([(f"a/{s}_{f}.png", f"b/m{s}_{f}.png") for s in range(6) for f in range(2)], tmp_path / "in")
    rows = [
        {
            "image": f"a/{s}_{f}.png",
            "mask": f"b/m{s}_{f}.png",
            "sequence": f"run{s}",
            "patient": f"p{s}",
            "split": "test" if s == 5 else "train",
        }
        for s in range(6)
        for f in range(2)
    ]
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    folder = convert(tmp_path / "in", out, "--manifest", manifest)
    assert read_column(folder, "patient")["a/3_1.png"] == "p3"
    assert read_column(folder, "sequence")["a/3_1.png"] == "run3"
    assert read_column(folder, "split")["a/5_0.png"] == "test"


def test_groups_are_patients(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs([(f"images/test_{n}.png", f"masks/test_{n}.png") for n in range(6)], tmp_path / "in")
    groups = tmp_path / "groups.csv"
    groups.write_text("image,group\n" + "".join(f"test_{n}.png,{min(n, 4)}\n" for n in range(6)))
    folder = convert(tmp_path / "in", out, "--groups", groups)
    assert read_column(folder, "patient")["images/test_5.png"] == "4"
    assert "6 frames of 5 patients" in capsys.readouterr().out


@pytest.mark.parametrize("pattern", [r"_(\w+)_", r"_(?P<sequence>\w+)_\d", "r[0-9]"])
def test_sequence_pattern(tmp_path: Path, out: Path, pattern: str) -> None:
    names = [f"{f}_r{s}_1.png" for s in range(5) for f in range(2)]
    write_pairs([(f"images/{name}", f"masks/{name}") for name in names], tmp_path / "in")
    folder = convert(tmp_path / "in", out, "--sequence-pattern", pattern)
    assert set(read_column(folder, "sequence").values()) == {"r0", "r1", "r2", "r3", "r4"}


def test_formats_may_differ_between_image_and_mask(source: Path, out: Path) -> None:
    images, masks = source / "train" / "images", source / "train" / "masks"
    for name, ending in (("seq00_000", "jpg"), ("seq00_001", "tif"), ("seq01_000", "bmp")):
        Image.open(images / f"{name}.png").convert("L").save(images / f"{name}.{ending}")
        (images / f"{name}.png").unlink()
    Image.open(masks / "seq01_001.png").save(masks / "seq01_001.tiff")
    (masks / "seq01_001.png").unlink()
    folder = convert(source, out)
    np.testing.assert_array_equal(io.imread(folder / "imagesTr" / "seq00_001_0000.png"), draw_frame(1))
    assert len(list((folder / "imagesTr").iterdir())) == 10


def test_hidden_files_are_left_out(source: Path, out: Path) -> None:
    shutil.copy(source / "train" / "images" / "seq00_000.png", source / "train" / "images" / "._seq00_000.png")
    (source / "train" / "images" / ".DS_Store").write_bytes(b"x")
    assert len(list((convert(source, out) / "imagesTr").iterdir())) == 10


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "training"])
def test_a_split_for_validation_is_part_of_the_training_data(tmp_path: Path, out: Path, name: str) -> None:
    """Else the frames of a sequence that lie in both would be two groups, and leak between folds."""
    splits = ("train", name)
    places = [f"{splits[f]}/{{}}/s{s}_{f}.png" for s in range(5) for f in range(2)]
    write_pairs([(place.format("images"), place.format("masks")) for place in places], tmp_path / "in")
    folder = convert(tmp_path / "in", out)
    assert set(read_column(folder, "split").values()) == {"train"}
    assert read_column(folder, "sequence")[f"{name}/images/s3_1.png"] == "s3"


@pytest.mark.parametrize("name", ["test", "Testing"])
def test_a_split_for_testing_is_not_trained_on(tmp_path: Path, out: Path, name: str) -> None:
    places = [
        f"{split}/{{}}/s{s}_0.png" for split, sequences in (("training", range(5)), (name, [7])) for s in sequences
    ]
    write_pairs([(place.format("images"), place.format("masks")) for place in places], tmp_path / "in")
    folder = convert(tmp_path / "in", out)
    assert [case for case, split in read_column(folder, "split").items() if split == "test"] == [
        f"{name}/images/s7_0.png"
    ]
    assert [path.name for path in (folder / "imagesTs").iterdir()] == ["s7_0_0000.png"]


def test_files_that_are_skipped_are_counted(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("run.avi", "a.dcm", "b.dcm", "Thumbs.db", ".hidden"):
        (source / "train" / "images" / name).write_bytes(b"x")
    convert(source, out)
    assert "Skipped, because they are no PNG, JPEG, TIFF or BMP files: 1 .avi, 2 .dcm." in capsys.readouterr().out


def test_linked_folders_are_followed_each_once(tmp_path: Path, out: Path) -> None:
    places = [("disk" if s == 4 else "in") + f"/run{s}/{{}}/{f}.png" for s in range(5) for f in range(2)]
    write_pairs([(place.format("images"), place.format("masks")) for place in places], tmp_path)
    (tmp_path / "in" / "run4").symlink_to(tmp_path / "disk" / "run4")
    (tmp_path / "in" / "run5").symlink_to(tmp_path / "disk" / "run4")
    (tmp_path / "in" / "run0" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "run0" / "images" / "loop").symlink_to(tmp_path / "in" / "run0" / "images")
    sequences = read_column(convert(tmp_path / "in", out), "sequence")
    assert sorted(sequences.values()) == sorted(f"run{s}" for s in range(5) for _ in range(2))


@pytest.mark.parametrize(
    ("name", "options", "is_told"),
    [
        ("s{}_{}_512x512", (), True),
        ("s{}_{}", (), False),
        ("s{}_{}_512x512", ("--sequence-pattern", r"s\d"), False),
    ],
)
def test_names_that_make_every_frame_a_sequence_are_told(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], name: str, options: tuple[str, ...], is_told: bool
) -> None:
    names = [name.format(s, f) for s in range(6) for f in range(2)]
    write_pairs([(f"images/{name}.png", f"masks/{name}.png") for name in names], tmp_path / "in")
    convert(tmp_path / "in", out, *options)
    report = capsys.readouterr().out
    assert ("12 of 12 frames for training are each a sequence of their own" in report) == is_told
    assert ("--sequence-pattern" in report) == is_told
