"""``fganet prepare-frames``: new frames look as training frames do."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import io

from nnunet_fganet.cli.main import main


def make_frames(folder: Path) -> np.ndarray:
    folder.mkdir()
    frame = np.random.default_rng(0).integers(120, 180, (128, 128), dtype=np.uint8)
    frame[:, :32] = 16
    for name in ("run_1.png", "run_2.bmp"):
        Image.fromarray(frame).save(folder / name)
    (folder / "notes.txt").write_text("not a frame")
    return frame


def test_prepared_as_training_frames_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = make_frames(tmp_path / "in")
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "collimation.csv",
        "run_1_0000.png",
        "run_2_0000.png",
    ]
    prepared = io.imread(tmp_path / "out" / "run_2_0000.png")
    assert not prepared[:, :31].any()
    np.testing.assert_array_equal(prepared[:, 33:], frame[:, 33:])
    said = capsys.readouterr().out
    assert "borders set to zero in 2 of 2 frames" in said
    assert "Skipped, because they are no PNG, JPEG, TIFF or BMP files: 1 .txt." in said


def test_a_single_frame(tmp_path: Path) -> None:
    make_frames(tmp_path / "in")
    assert main(["prepare-frames", str(tmp_path / "in" / "run_1.png"), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "run_1_0000.png").is_file()


def test_an_empty_folder_may_be_filled_and_a_result_replaced_with_force(tmp_path: Path) -> None:
    make_frames(tmp_path / "in")
    (tmp_path / "out").mkdir()
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    (tmp_path / "in" / "run_2.bmp").unlink()
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "out"), "--force"]) == 0
    assert not (tmp_path / "out" / "run_2_0000.png").exists()


def test_force_does_not_replace_what_is_not_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_frames(tmp_path / "in")
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path), "--force"]) == 2
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "in"), "--force"]) == 2
    assert "which is read" in capsys.readouterr().err
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "home"), "--force"]) == 2
    assert "no earlier result of fganet prepare-frames" in capsys.readouterr().err
    assert (tmp_path / "in" / "notes.txt").is_file()
    assert (tmp_path / "home" / "thesis.txt").is_file()


@pytest.mark.parametrize("foreign", ["no report", "frame more", "frame less", "folder more"])
def test_force_does_not_replace_images_of_nnunet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], foreign: str
) -> None:
    """``imagesTr`` holds nothing but ``*_0000.png``, too."""
    make_frames(tmp_path / "in")
    images = tmp_path / "imagesTr"
    assert main(["prepare-frames", str(tmp_path / "in"), str(images)]) == 0
    {
        "no report": (images / "collimation.csv").unlink,
        "frame more": lambda: (images / "seq00_000_0000.png").write_bytes((images / "run_1_0000.png").read_bytes()),
        "frame less": (images / "run_1_0000.png").unlink,
        "folder more": (images / "mine").mkdir,
    }[foreign]()
    before = sorted(images.iterdir())
    assert main(["prepare-frames", str(tmp_path / "in"), str(images), "--force"]) == 2
    assert f"{images} is no earlier result" in capsys.readouterr().err
    assert sorted(images.iterdir()) == before


def test_force_does_not_remove_the_frames_that_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_frames(tmp_path / "in")
    out = tmp_path / "out"
    assert main(["prepare-frames", str(tmp_path / "in"), str(out)]) == 0
    for source in (out, out / "run_1_0000.png"):
        assert main(["prepare-frames", str(source), str(out), "--force"]) == 2
        assert f"{out} holds {source}, which is read" in capsys.readouterr().err
    assert len(list(out.iterdir())) == 3


def test_the_current_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_frames(tmp_path / "in")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["prepare-frames", "../in", "."]) == 2
    assert "current folder" in capsys.readouterr().err


def test_bad_frames_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_frames(tmp_path / "in")
    path = tmp_path / "in" / "run_2.bmp"
    path.write_bytes(path.read_bytes()[:900])
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert f"fganet: {path} is damaged" in capsys.readouterr().err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in"]


def test_two_frames_of_one_name_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_frames(tmp_path / "in")
    Image.open(tmp_path / "in" / "run_1.png").save(tmp_path / "in" / "run_1.tif")
    assert main(["prepare-frames", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert "run_1.tif are two frames of one name" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["prepare-frames", str(tmp_path / "empty"), str(tmp_path / "out")]) == 2
    assert "holds no image files" in capsys.readouterr().err
    assert main(["prepare-frames", str(tmp_path / "gone"), str(tmp_path / "out")]) == 2
    assert "gone does not exist" in capsys.readouterr().err
