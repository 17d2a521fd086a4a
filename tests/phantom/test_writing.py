"""The data set on disk: layout, reproducibility, and what happens with bad input."""

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from nnunet_fganet.cli.main import main
from nnunet_fganet.errors import InputError
from nnunet_fganet.phantom import write_phantom
from nnunet_fganet.phantom.writing import has_wire, is_test


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout_is_that_of_tcgseg(phantom):
    for split in ("train", "test"):
        images = sorted(path.name for path in (phantom.folder / split / "images").iterdir())
        masks = sorted(path.name for path in (phantom.folder / split / "masks").iterdir())
        assert images == masks == sorted(name for name, entry in phantom.truth.items() if entry["split"] == split)
    image, mask = phantom.image("seq000_000.png"), phantom.mask("seq000_000.png")
    assert image.shape == (256, 256, 3) and image.dtype == np.uint8
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    assert mask.shape == (256, 256) and mask.dtype == np.uint8


def test_sequences_are_split_as_in_the_paper(phantom):
    assert sum(is_test(sequence) for sequence in range(80)) == 27
    assert any(is_test(sequence) for sequence in range(2))
    splits: dict[str, set[str]] = {}
    for entry in phantom.truth.values():
        splits.setdefault(entry["sequence"], set()).add(entry["split"])
    assert all(len(split) == 1 for split in splits.values())


def test_a_tenth_has_no_wire_in_both_splits():
    bare = [sequence for sequence in range(80) if not has_wire(sequence)]
    assert len(bare) == 8
    assert {is_test(sequence) for sequence in bare} == {True, False}


def test_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    write_phantom(tmp_path / "here", sequences=2, frames=2, size=64, seed=5)
    command = [sys.executable, "-m", "nnunet_fganet.cli.main", "phantom", str(tmp_path / "there")]
    options = ["--sequences", "2", "--frames", "2", "--size", "64", "--seed", "5"]
    subprocess.run(command + options, check=True, capture_output=True)
    here = digests(tmp_path / "here")
    assert here == digests(tmp_path / "there")
    write_phantom(tmp_path / "other", sequences=2, frames=2, size=64, seed=6)
    assert not set(here.values()) & set(digests(tmp_path / "other").values())


def test_a_sequence_does_not_depend_on_how_many_are_asked_for(tmp_path):
    write_phantom(tmp_path / "two", sequences=2, frames=2, size=64, seed=5)
    write_phantom(tmp_path / "four", sequences=4, frames=2, size=64, seed=5)
    two, four = digests(tmp_path / "two"), digests(tmp_path / "four")
    for images in (two, four):
        del images["truth.json"]
    assert two.items() <= four.items()


def test_one_sequence_of_one_frame(tmp_path):
    write_phantom(tmp_path / "data", sequences=1, frames=1, size=64, seed=0)
    assert len(list((tmp_path / "data" / "train" / "images").iterdir())) == 1
    assert not any((tmp_path / "data" / "test" / "images").iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "63"], "--size is 63: give at least 64"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_numbers_too_small(tmp_path, capsys, options, words):
    assert main(["phantom", str(tmp_path / "data"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--sequences", "--frames", "--size"])
def test_numbers_of_nothing(tmp_path, capsys, option):
    with pytest.raises(SystemExit) as raised:
        main(["phantom", str(tmp_path / "data"), option, "0"])
    assert raised.value.code == 2
    assert option in capsys.readouterr().err
    with pytest.raises(InputError, match=f"{option} is 0"):
        write_phantom(tmp_path / "data", **{"sequences": 1, "frames": 1, "size": 64, "seed": 0} | {option[2:]: 0})


def test_an_existing_folder_needs_force(tmp_path, capsys):
    out = tmp_path / "data"
    out.mkdir()
    command = ["phantom", str(out), "--frames", "1", "--size", "64", "--sequences"]
    assert main([*command, "2"]) == 0  # an empty folder may be filled
    before = digests(out)
    assert main([*command, "1"]) == 2
    assert f"{out} exists already" in capsys.readouterr().err
    assert digests(out) == before
    assert main([*command, "1", "--force"]) == 0
    assert len(digests(out)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


OURS = '{"size": 64, "seed": 0, "frames_per_second": 8, "frames": {}}'


@pytest.mark.parametrize("truth", [None, "{", "[]", '{"frames": {}}', OURS])
def test_force_replaces_nothing_but_phantoms(tmp_path, capsys, truth):
    home = tmp_path / "home"
    (home / "thesis").mkdir(parents=True)
    if truth is not None:
        (home / "truth.json").write_text(truth)
    command = ["phantom", str(home), "--sequences", "1", "--frames", "1", "--size", "64", "--force"]
    assert main(command) == 2
    assert f"{home} is no phantom" in capsys.readouterr().err
    assert (home / "thesis").is_dir()


@pytest.mark.parametrize(("sequences", "converts"), [(6, False), (7, True)])
def test_too_few_sequences_for_the_converter_are_noted(tmp_path, capsys, sequences, converts):
    options = ["--sequences", str(sequences), "--frames", "1", "--size", "64"]
    assert main(["phantom", str(tmp_path / "data"), *options]) == 0
    assert ("Note: " in capsys.readouterr().out) is not converts
    assert (main(["convert", str(tmp_path / "data"), "--out", str(tmp_path / "raw")]) == 0) is converts


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch, capsys):
    """Ctrl-C after the first PNG: the real encoder is called, then the interrupt arrives."""
    encode = cv2.imencode

    def interrupted(*arguments):
        if any(tmp_path.rglob("*.png")):
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(cv2, "imencode", interrupted)
    assert main(["phantom", str(tmp_path / "data"), "--sequences", "1", "--frames", "2", "--size", "64"]) == 2
    assert "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
