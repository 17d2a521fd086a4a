"""Every kind of bad input ends with one sentence that names the file, and leaves nothing behind."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from converter_sources import SIZE, draw_frame, draw_wire, make_released, save
from PIL import Image

from nnunet_fganet.cli.main import main

IMAGE, MASK = Path("train/images/seq00_000.png"), Path("train/masks/seq00_000.png")


def fails(capsys: pytest.CaptureFixture[str], source: Path, out: Path, *options: object) -> str:
    """Run the converter, which must fail as a user sees it; returns the sentence."""
    before = sorted(out.rglob("*")) if out.exists() else []
    assert main(["convert", str(source), "--out", str(out), *map(str, options)]) == 2
    error = capsys.readouterr().err
    sentence = error[error.index("fganet: ") :]  # a progress bar may stand before it
    assert "Traceback" not in error
    assert sentence.count("\n") == 1
    assert sentence.endswith(".\n")
    assert (sorted(out.rglob("*")) if out.exists() else []) == before
    return sentence


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def grey_mask(root: Path) -> None:
    mask = draw_wire(0)
    mask[:2, :3] = [17, 99, 140]
    save(root / MASK, mask)


def coloured(root: Path) -> None:
    pixels = np.repeat(draw_frame(0)[..., None], 3, axis=2)
    pixels[3, 4, 1] += 1
    save(root / IMAGE, pixels)


SHAPE = {"label": "guidewire", "shape_type": "linestrip", "points": [[5, 5], [9, 9]]}
BREAK: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "mask missing": (lambda root: (root / MASK).unlink(), [str(IMAGE), "no mask"]),
    "image missing": (lambda root: (root / IMAGE).unlink(), [str(MASK), "no image"]),
    "sizes differ": (lambda root: save(root / MASK, draw_wire(0, 50)), [str(MASK), "50 x 50", "40 x 40"]),
    "truncated image": (lambda root: truncate(root / IMAGE), [str(IMAGE), "damaged"]),
    "truncated mask": (lambda root: truncate(root / MASK), [str(MASK), "damaged"]),
    "no image": (lambda root: (root / IMAGE).write_text("text"), [str(IMAGE), "damaged"]),
    "empty file": (lambda root: (root / IMAGE).write_bytes(b""), [str(IMAGE), "damaged"]),
    "grey mask": (grey_mask, [str(MASK), "5 grey values (0, 17, 99, 140, 255)", "--threshold"]),
    "mask all white": (
        lambda root: save(root / MASK, np.full((SIZE, SIZE), 255, np.uint8)),
        [str(MASK), "255 everywhere"],
    ),
    "unequal channels": (coloured, [str(IMAGE), "colour"]),
    "two images of one name": (
        lambda root: Image.open(root / IMAGE).save((root / IMAGE).with_suffix(".bmp")),
        ["seq00_000.bmp", "seq00_000.png", "two frames of one name"],
    ),
    "two masks of one name": (
        lambda root: Image.open(root / MASK).save((root / MASK).with_suffix(".bmp")),
        ["seq00_000.bmp", "two masks of one name"],
    ),
    "one name in train and test": (
        lambda root: [
            save(root / "test" / kind / "seq00_000.png", pixels)
            for kind, pixels in (("images", draw_frame(0)), ("masks", draw_wire(0)))
        ],
        ["train/images/seq00_000.png", "test/images/seq00_000.png", "two frames of one name"],
    ),
    "leak": (
        lambda root: [
            save(root / "test" / kind / "seq02_077.png", pixels)
            for kind, pixels in (("images", draw_frame(0)), ("masks", draw_wire(0)))
        ],
        ["test/images/seq02_077.png", "seq02", "one sequence"],
    ),
    "several images in a file": (
        lambda root: [
            (root / IMAGE).unlink(),
            Image.fromarray(draw_frame(0)).save(
                (root / IMAGE).with_suffix(".tif"), save_all=True, append_images=[Image.fromarray(draw_frame(1))]
            ),
        ],
        ["seq00_000.tif", "2 images"],
    ),
    "masks of a split missing": (
        lambda root: shutil.rmtree(root / "test/masks"),
        ["test/images holds images", "no folder masks"],
    ),
    "masks of a split under another name": (
        lambda root: (root / "test/masks").rename(root / "test/annotations"),
        ["test/images holds images", "no folder masks"],
    ),
    "images of a split missing": (
        lambda root: shutil.rmtree(root / "test/images"),
        ["test/masks holds masks", "no folder images"],
    ),
    "all masks missing": (
        lambda root: [shutil.rmtree(root / split / "masks") for split in ("train", "test")],
        ["images holds images", "no folder masks"],
    ),
    "masks of one name in two folders": (
        lambda root: save(root / "train/labels/seq00_000.png", draw_wire(1)),
        ["train/masks/seq00_000.png", "train/labels/seq00_000.png", "two masks of one frame"],
    ),
    "Labelme files beside the other frames": (
        lambda root: [
            save(root / "run2/s0_1.png", draw_frame(0)),
            (root / "run2/s0_1.json").write_text(json.dumps({"shapes": [SHAPE], "imagePath": "s0_1.png"})),
        ],
        ["run2/s0_1.json", "Labelme file outside the folders"],
    ),
    "damaged truth": (lambda root: (root / "truth.json").write_text("{"), ["truth.json"]),
}


@pytest.mark.parametrize("name", BREAK)
def test_broken_source(name: str, source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_it, expected = BREAK[name]
    break_it(source)
    sentence = fails(capsys, source, out)
    for part in expected:
        assert part in sentence


def test_threshold_accepts_grey_masks(source: Path, out: Path) -> None:
    grey_mask(source)
    assert main(["convert", str(source), "--out", str(out), "--threshold", "100"]) == 0
    label = np.asarray(Image.open(out / "Dataset501_TCGSeg" / "labelsTr" / "seq00_000.png"))
    assert label[0, :3].tolist() == [0, 0, 1]


def test_the_source_is_checked_before_the_target(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "Dataset501_TCGSeg").mkdir(parents=True)
    (out / "Dataset501_TCGSeg" / "mine.txt").touch()
    assert "gone is no folder" in fails(capsys, tmp_path / "gone", out)


def test_a_data_set_of_nnunet_needs_no_conversion(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(source), "--out", str(out)]) == 0
    [folder] = out.iterdir()
    capsys.readouterr()
    assert "is a data set of nnU-Net already: plan it" in fails(capsys, folder, out / "other")


@pytest.mark.parametrize("exists", [False, True])
def test_no_frames(exists: bool, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "nothing"
    if exists:
        source.mkdir()
    assert str(source) in fails(capsys, source, out)


@pytest.mark.parametrize("pattern", ["nowhere", "(", "seq00"])
def test_pattern_that_does_not_match(pattern: str, source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--sequence-pattern {pattern} " in fails(capsys, source, out, "--sequence-pattern", pattern)


def test_fewer_groups_than_folds(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = fails(capsys, make_released(tmp_path / "in", train=4), out)
    assert "at least 5 sequences" in sentence and "are of 4 (seq00, seq01, seq02, seq03)" in sentence


def test_existing_data_set_is_kept(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(source), "--out", str(out)]) == 0
    content = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert "--force" in fails(capsys, source, out)
    (source / MASK).unlink()
    assert str(source / IMAGE) in fails(capsys, source, out, "--force")
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == content


def test_force_replaces_nothing_but_data_sets(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_set = out / "Dataset501_TCGSeg"
    assert main(["convert", str(source), "--out", str(out)]) == 0
    (data_set / "thesis.txt").write_text("mine")
    assert "no data set of fganet convert alone" in fails(capsys, source, out, "--force")
    (data_set / "thesis.txt").unlink()
    (data_set / "dataset.json").write_text(json.dumps({"name": "another's"}))
    assert "no data set of fganet convert alone" in fails(capsys, source, out, "--force")


@pytest.mark.parametrize("inside", ["source", "groups", "manifest", "frames"])
def test_force_does_not_remove_what_it_reads(
    inside: str, source: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set = out / "Dataset501_TCGSeg"
    assert main(["convert", str(source), "--out", str(out)]) == 0
    table = data_set / "table.csv"
    names = sorted(path.relative_to(source) for path in source.rglob("images/*.png"))
    groups = "".join(f"{name.as_posix()},{name.name[:5]}\n" for name in names)
    frames = "".join(f"{name},{str(name).replace('images', 'masks')}\n" for name in names)
    if inside == "source":
        shutil.copytree(source, data_set / "in")
        sentence = fails(capsys, data_set / "in", out, "--force")
    elif inside == "groups":
        table.write_text("image,group\n" + groups)
        sentence = fails(capsys, source, out, "--force", "--groups", table)
    elif inside == "manifest":
        table.write_text("image,mask\n" + frames)
        sentence = fails(capsys, source, out, "--force", "--manifest", table)
    else:
        cases = sorted(path.name for path in (data_set / "labelsTr").iterdir())
        folder = data_set.relative_to(tmp_path)
        rows = [f"{folder}/imagesTr/{case[:-4]}_0000.png,{folder}/labelsTr/{case},{case[:5]}\n" for case in cases]
        manifest = tmp_path / "manifest.csv"
        manifest.write_text("image,mask,sequence\n" + "".join(rows))
        sentence = fails(capsys, tmp_path, out, "--force", "--manifest", manifest)
    assert f"{data_set} holds" in sentence
    assert "which is read" in sentence


@pytest.mark.parametrize("place", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_id_in_use(
    place: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    other = tmp_path / place / "Dataset501_Other"
    other.mkdir(parents=True)
    assert f"{other} uses the id 501" in fails(capsys, source, tmp_path / "nnUNet_raw", "--force")


def test_no_place(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(source)]) == 2
    error = capsys.readouterr().err
    assert "nnUNet_raw is not set" in error
    assert "--out DIR" in error


@pytest.mark.parametrize("value", ["~/raw", "$HOME/raw", "raw", "'/raw'", "/raw "])
def test_a_place_that_would_be_misread(
    value: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_raw", value)
    assert main(["convert", str(source)]) == 2
    assert "nnUNet_raw is wrong, " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert main(["convert", str(source), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("options", [("--id", 1000), ("--name", "../up"), ("--name", "")])
def test_unusable_id_or_name(
    options: tuple[str, object], source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert options[0] in fails(capsys, source, out, *options)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"shapes": [SHAPE | {"label": "stent"}]}, "'stent'"),
        ({"shapes": [SHAPE | {"shape_type": "circle"}]}, "'circle'"),
        ({"shapes": [SHAPE | {"points": [[1, 2]]}]}, "1 points"),
        ({"shapes": [SHAPE | {"points": None}]}, "pairs of numbers"),
        ({"shapes": 5}, "shapes"),
        ({"imagePath": "../../s0_1.png"}, "outside the source folder"),
        ({"imagePath": "/etc/passwd"}, "outside the source folder"),
        ({"imagePath": "..\\..\\s0_1.png"}, "outside the source folder"),
        ({"imagePath": "gone.png"}, "gone.png, which is missing"),
        ({"imagePath": "gone.png", "imageData": "%%%"}, "imageData"),
        ({"imagePath": "gone.png", "imageData": "AAAA"}, "damaged"),
        ({"imagePath": "s1_1.png"}, "both belong to"),
        ({"imageHeight": 80, "imageWidth": 90}, "90 x 80"),
    ],
)
def test_bad_labelme_file(
    change: dict, expected: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    for number in range(5):
        save(source / f"s{number}_1.png", draw_frame(number))
        content = {"shapes": [SHAPE], "imagePath": f"s{number}_1.png", "imageData": None}
        (source / f"s{number}_1.json").write_text(json.dumps(content | (change if number == 0 else {})))
    sentence = fails(capsys, source, out)
    assert expected in sentence
    assert "s0_1.json" in sentence


def test_labelme_file_missing_or_damaged(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    save(source / "s0_1.png", draw_frame(0))
    save(source / "s0_2.png", draw_frame(0))
    (source / "s0_1.json").write_text(json.dumps({"shapes": [], "imagePath": "s0_1.png"}))
    assert f"{source / 's0_2.png'} has no Labelme file" in fails(capsys, source, out)
    (source / "s0_2.json").write_text("{")
    assert str(source / "s0_2.json") in fails(capsys, source, out)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("", "has no rows"),
        ("image\na.png\n", "lacks the column mask, it has image"),
        (f"image;mask\n{IMAGE};{MASK}\n", "is separated by semicolons (image;mask)"),
        (f"image,mask\n\n{IMAGE},{MASK}\n\n{IMAGE},\n", "line 5, has no value in column mask"),
        (
            f"image,mask\n{IMAGE},{MASK}\ntrain/images/seq01_000.png,{MASK}\n",
            "lists the mask train/masks/seq00_000.png for",
        ),
        (f"image,mask\ngone.png,{MASK}\n", "gone.png, which is missing"),
        (f"image,mask\n{IMAGE},gone.png\n", "gone.png, which is missing"),
        (f"image,mask\n{IMAGE},../../x.png\n", "outside the source folder"),
        (f"image,mask\n{IMAGE},{MASK}\n{IMAGE},{MASK}\n", "twice"),
        (f"image,mask,split\n{IMAGE},{MASK},holdout\n", "'holdout' for"),
        (
            f"image,mask,patient\n{IMAGE},{MASK},a\ntrain/images/seq01_000.png,train/masks/seq01_000.png,\n",
            "no patient",
        ),
    ],
)
def test_bad_manifest(
    rows: str, expected: str, source: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(rows)
    sentence = fails(capsys, source, out, "--manifest", manifest)
    assert expected in sentence
    assert str(manifest) in sentence


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("image,group\nseq00_000.png,1\n", "no group for"),
        ("image,group\nseq00_000.png,1\nseq00_000.png,2\n", "two groups"),
        ("image,patient\nseq00_000.png,1\n", "lacks the column group, it has image, patient"),
    ],
)
def test_bad_groups(
    rows: str, expected: str, source: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text(rows)
    sentence = fails(capsys, source, out, "--groups", groups)
    assert expected in sentence
    assert str(groups) in sentence


def test_a_header_may_have_capitals_and_spaces(source: Path, tmp_path: Path, out: Path) -> None:
    groups = tmp_path / "groups.csv"
    names = sorted(path.name for path in source.rglob("images/*.png"))
    groups.write_text("Image, Group\n" + "".join(f"{name}, {name[:5]}\n" for name in names))
    assert main(["convert", str(source), "--out", str(out), "--groups", str(groups)]) == 0


def test_missing_table(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gone.csv" in fails(capsys, source, out, "--groups", "gone.csv")


def test_patient_in_training_and_test(
    source: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = tmp_path / "groups.csv"
    names = [path.name for path in sorted(source.rglob("images/*.png"))]
    groups.write_text("image,group\n" + "".join(f"{name},{int(name[3:5]) % 5}\n" for name in names))
    assert "one patient, 0" in fails(capsys, source, out, "--groups", groups)


def test_exit_code_of_the_process(source: Path, out: Path) -> None:
    (source / MASK).unlink()
    command = [sys.executable, "-m", "dataset_conversion.Dataset501_TCGSeg", str(source), "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"fganet: {source / IMAGE} has no mask")
    assert result.stderr.count("\n") == 1
