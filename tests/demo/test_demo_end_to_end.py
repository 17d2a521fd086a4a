"""The demo itself, made tiny: every stock command runs, and a second run only scores."""

from pathlib import Path

import cv2
import pytest

from nnunet_fganet.demo.__main__ import Size, main

TINY = Size(sequences=12, frames=2, pixels=96, epochs=1, iterations=2, validation_iterations=1, batch=2)


@pytest.mark.slow
def test_from_nothing_to_table_and_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    assert main(folder, TINY) == 0
    printed = capfd.readouterr().out
    assert "epoch   1/1" in printed
    table = (folder / "scores.md").read_text()
    assert table in printed
    assert "Dice, pooled" in table and "ms a frame" in table
    labels = sorted(path.name for path in (folder / "nnUNet_raw" / "Dataset501_TCGSeg" / "labelsTs").glob("*.png"))
    assert sorted(path.name for path in (folder / "predictions").glob("*.png")) == labels
    assert len((folder / "scores.csv").read_text().splitlines()) == len(labels) + 1 > 1
    assert cv2.imread(str(folder / "overlays.png")) is not None
    assert str(folder / "overlays.png") in printed.splitlines()[-1]

    assert main(folder, TINY) == 0
    assert capfd.readouterr().out.count("done before") == 5
