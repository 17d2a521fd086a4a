"""What the converter writes, of the released layout."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from converter_sources import SIZE, convert, draw_frame, draw_wire, make_released, save
from PIL import Image
from skimage import io

from nnunet_fganet.cli.main import main


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_images_and_labels_are_what_nnunet_reads(source: Path, out: Path) -> None:
    folder = convert(source, out)
    assert folder.name == "Dataset501_TCGSeg"
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == [
        f"seq{sequence:02d}_{frame:03d}_0000.png" for sequence in range(5) for frame in range(2)
    ]
    assert [path.name for path in sorted((folder / "labelsTs").iterdir())] == ["seq05_000.png", "seq05_001.png"]
    np.testing.assert_array_equal(io.imread(folder / "imagesTr" / "seq01_000_0000.png"), draw_frame(2))
    np.testing.assert_array_equal(io.imread(folder / "labelsTr" / "seq01_000.png"), draw_wire(2) // 255)


def test_the_module_is_the_same_command(source: Path, out: Path, tmp_path: Path) -> None:
    folder = convert(source, out)
    command = [sys.executable, "-m", "dataset_conversion.Dataset501_TCGSeg", str(source), "--out", str(tmp_path / "b")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "train: 10 frames of 5 sequences" in result.stdout
    other = tmp_path / "b" / folder.name
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.*"))
    assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_frames_csv_records_where_every_frame_came_from(source: Path, out: Path) -> None:
    truth = {"frames": {"seq03_001.png": {"sequence": "seq03", "time_s": 0.125}}}
    (source / "truth.json").write_text(json.dumps(truth))
    folder = convert(source, out)
    rows = {row["case"]: row for row in read_rows(folder)}
    assert ",".join(rows["seq03_001"]) == "case,split,sequence,patient,source,sha256,spacing_mm,time_s"
    image = source / "train" / "images" / "seq03_001.png"
    assert rows["seq03_001"] == {
        "case": "seq03_001",
        "split": "train",
        "sequence": "seq03",
        "patient": "",
        "source": "train/images/seq03_001.png",
        "sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
        "spacing_mm": "",
        "time_s": "0.125",
    }
    assert rows["seq05_000"]["split"] == "test"
    assert rows["seq05_000"]["time_s"] == ""


def test_folds_keep_sequences_whole(tmp_path: Path, out: Path) -> None:
    folder = convert(make_released(tmp_path / "source", train=12, test=1, frames=2), out)
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 6
    cases = {path.stem for path in (folder / "labelsTr").iterdir()}
    for fold in folds:
        assert set(fold["train"]) | set(fold["val"]) == cases
        assert not {case[:5] for case in fold["train"]} & {case[:5] for case in fold["val"]}
    assert sorted(case for fold in folds[:5] for case in fold["val"]) == sorted(cases)
    assert len({case[:5] for case in folds[5]["val"]}) == 2


def test_nnunet_raw_is_the_default_place(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nnUNet_raw"))
    assert main(["convert", str(source), "--id", "7", "--name", "Wires"]) == 0
    assert (tmp_path / "nnUNet_raw" / "Dataset007_Wires" / "dataset.json").is_file()


def test_force_replaces_and_names_what_is_stale(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    assert main(["convert", str(source)]) == 0
    stale = tmp_path / "nnUNet_preprocessed" / "Dataset501_TCGSeg"
    stale.mkdir(parents=True)
    make_released(source, train=6, test=0)
    for split in ("images", "masks"):
        for frame in range(2):
            (source / "test" / split / f"seq05_{frame:03d}.png").unlink()
    assert main(["convert", str(source), "--force"]) == 0
    assert f"rm -r {stale}" in capsys.readouterr().out
    assert stale.is_dir()
    labels = tmp_path / "nnUNet_raw" / "Dataset501_TCGSeg" / "labelsTr"
    assert len(list(labels.iterdir())) == 12


def test_out_does_not_call_other_models_stale(
    source: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """nnU-Net's data set of the same name is another one than that which was made with --out."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable / "Dataset501_TCGSeg").mkdir(parents=True)
    convert(source, out)
    convert(source, out, "--force")
    assert "rm -r" not in capsys.readouterr().out
    convert(source, out, "--force")
    monkeypatch.setenv("nnUNet_raw", str(out))
    convert(source, out, "--force")
    assert capsys.readouterr().out.count("rm -r") == 2


def test_16_bit_frames_keep_their_depth(source: Path, out: Path) -> None:
    frame = draw_frame(0).astype(np.uint16) * 200
    save(source / "train" / "images" / "seq00_000.png", frame)
    folder = convert(source, out)
    np.testing.assert_array_equal(io.imread(folder / "imagesTr" / "seq00_000_0000.png"), frame)


def test_border_is_set_to_zero_and_reported(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = draw_frame(0, 128)
    frame[:, :32] = 16
    Image.fromarray(frame).save(source / "train" / "images" / "seq00_000.png")
    Image.fromarray(draw_wire(0, 128)).save(source / "train" / "masks" / "seq00_000.png")  # wire at column 5
    folder = convert(source, out)
    written = io.imread(folder / "imagesTr" / "seq00_000_0000.png")
    assert not written[:, :31].any()
    np.testing.assert_array_equal(written[:, 33:], frame[:, 33:])
    report = capsys.readouterr().out
    assert "borders set to zero in 1 of 12 frames" in report
    assert "set to zero as border: 1 (seq00_000)" in report
    with (folder / "collimation.csv").open() as file:
        removed = {row["case"]: float(row["removed"]) for row in csv.DictReader(file)}
    assert removed["seq00_000"] == pytest.approx(0.25, abs=0.01)
    assert removed["seq00_001"] == 0


def test_empty_and_inverted_masks_are_reported(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(source / "train" / "masks" / "seq00_000.png", np.zeros((SIZE, SIZE), np.uint8))
    save(source / "train" / "masks" / "seq01_000.png", 255 - draw_wire(2))
    convert(source, out)
    report = capsys.readouterr().out
    assert "have no wire: 1 (seq00_000)" in report
    assert "background drawn as wire?): 1 (seq01_000)" in report
