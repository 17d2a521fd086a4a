"""Wires over recorded frames: which frames are used, and that only the wire is added."""

import json

import cv2
import numpy as np
import pytest

from nnunet_fganet.cli.main import main
from nnunet_fganet.frames.reading import read_frame
from nnunet_fganet.phantom import write_phantom
from nnunet_fganet.phantom.backgrounds import Run, draw_background, find_runs
from nnunet_fganet.phantom.scenes import draw_recorded_scene, local_noise


def write_run(folder, name, numbers, view, suffix=".png", size=96):
    """A run of one view: a smooth scene with a little noise that changes from frame to frame."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(view)
    scene = cv2.resize(
        rng.uniform(60, 180, (5, 5)).astype(np.float32), (size + 32, size), interpolation=cv2.INTER_CUBIC
    )
    for number in numbers:
        frame = np.clip(scene + rng.normal(0, 4, scene.shape), 30, 250).astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}{number}{suffix}"), frame)


def test_runs_are_numbered_names_of_one_view(tmp_path):
    folder = tmp_path / "frames"
    write_run(folder, "a_", [2, 10, 1], view=1)
    write_run(folder, "b_", [1, 2], view=2, suffix=".jpg")
    write_run(folder, "b_", [3], view=3)
    (folder / "notes.txt").write_text("no image")
    names = [[path.name for path in run.files] for run in find_runs(folder)]
    assert names == [["a_1.png", "a_2.png", "a_10.png"], ["b_1.jpg", "b_2.jpg"], ["b_3.png"]]


def test_short_runs_go_back_and_forth(tmp_path):
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), np.full((64, 80), 10 * number, np.uint8))
    frames = Run(tuple(files)).read(first=1, frames=7, size=64)
    assert frames.shape == (7, 64, 64)
    assert (frames[:, 0, 0] // 10).tolist() == [1, 2, 1, 0, 1, 2, 1]
    assert Run(tuple(files[2:])).read(0, 2, 64)[:, 0, 0].tolist() == [20, 20]


def test_train_and_test_use_different_runs(tmp_path):
    folder = tmp_path / "frames"
    for view, name in enumerate("abcd"):
        write_run(folder, f"{name}_", range(4), view=view)
    runs = find_runs(folder)
    rng = np.random.default_rng(0)
    train, test = (
        {draw_background(rng, runs, 2, 64, is_test).tobytes()[:4096] for _ in range(40)} for is_test in (False, True)
    )
    assert train and test and not train & test


def test_deep_runs_are_scaled_by_the_bits_that_all_their_frames_need(tmp_path):
    """Scaled frame by frame, a run whose brightest pixel passes a power of two would flicker."""
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    for number, brightest in enumerate((500, 1023, 520)):
        cv2.imwrite(str(tmp_path / f"deep_{number}.png"), (ramp * brightest).astype(np.uint16))
    (run,) = find_runs(tmp_path)
    frames = run.read(first=0, frames=3, size=32)
    assert frames.dtype == np.uint8
    assert frames.max(axis=(1, 2)).tolist() == [500 // 4, 255, 520 // 4]
    assert abs(frames[1].mean() - 127) <= 1


def test_the_window_of_a_recorded_frame_is_found():
    rows, columns = np.mgrid[:128, :128]
    disc = np.hypot(rows - 70, columns - 50) < 55
    frame = np.where(disc, 120, 18) + np.random.default_rng(0).normal(0, 1, disc.shape)
    frame[60:90, 40:46] = 20  # a dense device is no border
    found = draw_recorded_scene(np.random.default_rng(0), frame.astype(np.uint8)[None]).window
    assert np.sum(found & disc) / np.sum(found | disc) > 0.96


def test_the_noise_of_a_recorded_frame_is_found():
    noise = np.random.default_rng(1).normal(0, np.where(np.arange(128) < 64, 3.0, 6.0)[None], (128, 128))
    frame = np.clip(np.rint(100 + np.arange(128)[:, None] * 0.3 + noise), 0, 255).astype(np.uint8)
    estimate = local_noise(frame)
    assert estimate[:, :48].mean() == pytest.approx(3, rel=0.2)
    assert estimate[:, 80:].mean() == pytest.approx(6, rel=0.2)


def test_only_the_wire_and_its_catheter_are_added(tmp_path):
    write_run(tmp_path / "frames", "a_", range(4), view=1, size=128)
    write_phantom(tmp_path / "data", 10, 4, 128, seed=1, backgrounds=tmp_path / "frames")
    frames = json.loads((tmp_path / "data" / "truth.json").read_text())["frames"]
    originals = np.stack([read_frame(path)[:, 16:144] for path in sorted((tmp_path / "frames").iterdir())]).astype(int)
    for name in frames:
        folder = tmp_path / "data" / frames[name]["split"]
        image = cv2.imread(str(folder / "images" / name), cv2.IMREAD_GRAYSCALE).astype(int)
        changed = np.abs(image - originals).reshape(4, -1)
        nearest = changed.sum(axis=1).argmin()
        difference = (image - originals[nearest])[None][0]
        mask = cv2.imread(str(folder / "masks" / name), cv2.IMREAD_GRAYSCALE) > 0
        if not frames[name]["centreline"]:
            assert not difference.any()  # a sequence without a wire is the recorded one
            continue
        assert np.mean(difference != 0) < 0.15
        assert difference[mask].mean() < -2


def test_unusable_backgrounds(tmp_path, capsys):
    def fails_with(folder, words):
        options = ["--sequences", "1", "--frames", "1", "--size", "64", "--backgrounds", str(folder)]
        assert main(["phantom", str(tmp_path / "data"), *options]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "data").exists()

    fails_with(tmp_path / "missing", "missing is no folder")
    (tmp_path / "empty").mkdir()
    fails_with(tmp_path / "empty", "empty holds no images")
    write_run(tmp_path / "frames", "a_", range(2), view=1)
    broken = tmp_path / "frames" / "a_1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    fails_with(tmp_path / "frames", "a_1.png is damaged")
    cv2.imwrite(str(broken), np.zeros((15, 40), np.uint8))
    fails_with(tmp_path / "frames", "a_1.png has fewer than 16 rows or columns")


def test_force_does_not_remove_the_backgrounds(tmp_path, capsys):
    write_run(tmp_path / "data", "a_", range(2), view=1)
    assert main(["phantom", str(tmp_path / "data"), "--backgrounds", str(tmp_path / "data"), "--force"]) == 2
    assert "which is read" in capsys.readouterr().err
    assert (tmp_path / "data" / "a_0.png").is_file()


def test_wires_over_real_frames_are_as_faint(tmp_path, recorded_frames):
    write_phantom(tmp_path / "data", 12, 2, 256, seed=2, backgrounds=recorded_frames)
    frames = json.loads((tmp_path / "data" / "truth.json").read_text())["frames"].values()
    ratios = np.array([entry["contrast_to_noise"] for entry in frames if entry["centreline"]])
    assert np.mean((ratios > 0.5) & (ratios < 6)) > 0.9
    assert 1 < np.median(ratios) < 4
