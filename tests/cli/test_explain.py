"""``fganet explain`` by its real command line."""

import sys

import cv2
import numpy as np
import pytest
import torch
from trained_model import write_model
from wire_dataset import DATASET_ID, DATASET_NAME, wire_frame, write_dataset

from nnunet_fganet.cli.main import main
from nnunet_fganet.explanation.explaining import explain_frame
from nnunet_fganet.inference.trained import load_predictor

BAD_INPUT = {
    "no frame": ("--model {model}", "name an image file"),
    "no such frame": ("{folder}/missing.png --model {model}", "missing.png cannot be read"),
    "no image": ("{folder}/text.png --model {model}", "text.png is damaged"),
    "black": ("{folder}/black.png --model {model}", "black.png is black"),
    "no such model": ("{frame} --model {folder}/model", ".../TRAINER__PLANS__2d"),
    "not a model": ("{frame} --model {folder}", "holds no plans.json"),
    "the folder of a fold": ("{frame} --model {model}/fold_0", "holds no plans.json"),
    "wrong fold": ("{frame} --model {model} --fold 1", "choose fold 0"),
    "unknown layer": ("{frame} --model {model} --layer decoder.stages.0.sad", "did you mean decoder.stages.0.sda"),
    "layer not run": ("{frame} --model {model} --layer decoder.seg_layers.1", "no map can be made of"),
    "exists": ("{frame} --model {model} --out {folder}/there.png", "--force"),
    "a folder": ("{frame} --model {model} --force --out {folder}/folder.png", "is a folder"),
    "the frame": ("{frame} --model {model} --force --out {frame}", "is the frame itself"),
    "no png": ("{frame} --model {model} --out {folder}/out.gif", "end it with .png"),
}
TRAINER = ("-tr", "nnUNetTrainerFGANet", "-p", "nnUNetFGANetPlans", "-device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("results") / "nnUNetTrainerFGANet__nnUNetFGANetPlans__2d")


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.png"
    cv2.imwrite(str(path), wire_frame(7)[0])
    return path


def test_layers_are_listed_without_a_frame(model, capsys):
    assert main(["explain", "--model", str(model), "--list-layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("* ")] == ["decoder.stages.0.sda"]
    assert any(line.split() == ["encoder.stages.0", "8", "x", "64", "x", "64", "ConvBlock"] for line in lines)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".bmp"])
def test_a_frame_of_any_kind_becomes_a_picture(model, tmp_path, ending, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite(f"frame{ending}", wire_frame(7)[0])
    assert main(["explain", f"frame{ending}", "--model", str(model), "--layer", "encoder.stages.2"]) == 0
    printed = capsys.readouterr().out
    assert "Layer: encoder.stages.2 (Sequential, 16 channels of " in printed
    assert printed.endswith("Explanation: frame_explained.png\n")
    picture = cv2.imread("frame_explained.png")
    assert picture.shape[1] > 2 * 96 and picture.std() > 0


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_writes_nothing(case, model, frame, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "there.png").write_text("an earlier result")
    (tmp_path / "folder.png").mkdir()
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((64, 64), np.uint8))
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    template, expected = BAD_INPUT[case]
    words = template.format(frame=frame, folder=tmp_path, model=model).split()
    assert main(["explain", *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_missing_library_is_one_sentence(model, frame, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert main(["explain", str(frame), "--model", str(model)]) == 2
    error = capsys.readouterr().err
    assert "pip install 'nnunet_fganet[explain]'" in error and error.count("\n") == 1


def test_a_frame_without_a_wire_is_explained_by_its_strongest_logits(tmp_path, frame, capsys):
    model = write_model(tmp_path / "model")
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    content["network_weights"]["decoder.seg_layers.0.bias"] -= 100
    torch.save(content, checkpoint)
    out = tmp_path / "out.png"
    assert main(["explain", str(frame), "--model", str(model), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"No wire was found in {frame}: the map explains the 9 strongest wire logits instead" in printed
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_trained_model_looks_at_the_wire(shared_nnunet, tmp_path):
    """Trained by the stock command until it finds wires; the map is strongest where the wire is."""
    write_dataset(shared_nnunet.raw, {"background": 0, "guidewire": [1, 1]}, regions=True)
    small = ("--workers", "1", "--widths", "8", "16", "16", "16", "--batch", "2", "--iterations", "30", "--epochs", "3")
    shared_nnunet.run("fganet", "plan", str(DATASET_ID), *small)
    shared_nnunet.run("nnUNetv2_train", str(DATASET_ID), "2d", "0", *TRAINER)
    model = shared_nnunet.results / DATASET_NAME / "nnUNetTrainerFGANet__nnUNetFGANetPlans__2d"
    image, label = wire_frame(300)
    cv2.imwrite(str(tmp_path / "frame.png"), np.pad(image, ((0, 10), (20, 0))))
    out = tmp_path / "out.png"
    out.write_bytes(b"an earlier result")
    printed = shared_nnunet.run("fganet", "explain", tmp_path / "frame.png", "--model", model, "--out", out, "--force")
    assert "Wire: " in printed and out.read_bytes().startswith(b"\x89PNG")
    explanation = explain_frame(load_predictor(model), image, "decoder.stages.2.bga")
    assert (explanation.prediction & (label > 0)).sum() > 0.5 * label.sum()
    assert explanation.cam[label > 0].mean() > 3 * explanation.cam[label == 0].mean()
