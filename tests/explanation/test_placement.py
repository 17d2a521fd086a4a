"""What the network sees of a frame lies where the map says: cropping, padding, and back."""

import numpy as np
import pytest
import torch
from comparator_plans import PLANS, SCALE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo import OptimizedModule
from trained_model import FGANET, PLAIN, UNET, write_model
from wire_dataset import wire_frame

from nnunet_fganet.comparators.registry import COMPARATORS
from nnunet_fganet.explanation.explaining import explain_frame
from nnunet_fganet.explanation.layers import run_and_list_layers
from nnunet_fganet.explanation.placement import place_frame
from nnunet_fganet.frames.collimation import clean_border
from nnunet_fganet.inference.trained import load_predictor

PATCH = 64


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "fganet": load_predictor(write_model(root / "fganet", FGANET, PATCH)),
        "odd patch": load_predictor(write_model(root / "odd", FGANET, 68)),
        "unet": load_predictor(write_model(root / "unet", UNET, PATCH, PLAIN)),
    }


def bordered(frame, top, bottom, left, right):
    return np.pad(frame, ((top, bottom), (left, right)))


@given(
    size=st.tuples(*[st.integers(20, 150)] * 2),
    border=st.tuples(*[st.integers(0, 40)] * 4),
    model=st.sampled_from(["fganet", "odd patch", "unet"]),
)
@settings(max_examples=40)
def test_the_networks_image_returns_to_the_frame_that_it_came_from(predictors, size, border, model):
    frame = np.random.default_rng(0).integers(90, 160, size).astype(np.uint16)
    whole = bordered(frame, *border)
    placed = place_frame(predictors[model], whole)
    assert placed.image.shape[:2] == (1, 1)
    assert all(side >= predictors[model].configuration_manager.patch_size[0] for side in placed.image.shape[2:])
    cleaned, _ = clean_border(whole)  # may round the corners of the window
    shown = cleaned[cleaned > 0]
    expected = np.where(cleaned > 0, (cleaned - shown.mean()) / shown.std(), 0)
    np.testing.assert_allclose(placed.to_frame(placed.image[0, 0].numpy()), expected, atol=1e-4)
    padding = torch.ones_like(placed.image[0, 0], dtype=torch.bool)
    padding[placed.inside] = False
    assert not placed.image[0, 0][padding].any()


@pytest.mark.parametrize(
    ("model", "shape"), [("fganet", (40, 64)), ("fganet", (64, 64)), ("odd patch", (68, 50)), ("unet", (40, 64))]
)
def test_the_prediction_of_a_frame_up_to_the_patch_is_nnunets_own(predictors, model, shape):
    frame = bordered(wire_frame(4)[0][: shape[0], 7 : shape[1]], 0, 0, 7, 0)
    placed = place_frame(predictors[model], frame)
    with torch.no_grad():
        found = placed.prediction(predictors[model].network(placed.image))
    expected = predictors[model].predict_single_npy_array(
        frame[None, None].astype(np.float32), {"spacing": (999, 1, 1)}
    )
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(found, expected[0])


@pytest.mark.parametrize("model", ["fganet", "odd patch"])
@pytest.mark.parametrize("shape", [(40, 60), (68, 64), (90, 150)])
def test_the_map_of_the_logits_themselves_is_the_prediction(predictors, model, shape):
    """Of the head with one channel what is left is the positive logits: at the predicted pixels and nowhere else."""
    frame = bordered(wire_frame(8, 150)[0][: shape[0], : shape[1]], 5, 0, 0, 9)
    explanation = explain_frame(predictors[model], frame, "decoder.seg_layers.0")
    assert 0 < explanation.prediction.sum() < explanation.prediction.size
    np.testing.assert_array_equal(explanation.cam > 0, explanation.prediction)


@pytest.mark.parametrize(("model", "columns"), [("fganet", 130), ("unet", 100), ("odd patch", 68)])
def test_a_border_moves_the_map_and_changes_nothing_else(predictors, model, columns):
    """Frames so low that the cleaning lets their corners be."""
    shape, border = (20, columns), (6, 5, 12, 0)
    frame = wire_frame(5, 130)[0][50:70, :columns]
    whole = bordered(frame, *border)
    plain, moved = explain_frame(predictors[model], frame), explain_frame(predictors[model], whole)
    assert plain.cam.shape == shape
    assert plain.cam.min() >= 0 and plain.cam.max() == 1
    np.testing.assert_array_equal(moved.cam, bordered(plain.cam, *border))
    np.testing.assert_array_equal(moved.prediction, bordered(plain.prediction, *border))


@pytest.mark.parametrize("model", ["fganet", "odd patch", "unet"])
@pytest.mark.parametrize("shape", [(30, 40), (64, 70), (129, 100)])
def test_every_layer_covers_the_networks_image_without_a_rest(predictors, model, shape):
    """Otherwise the network padded by itself, and what is stretched to the image would not lie over it."""
    placed = place_frame(predictors[model], wire_frame(6, 130)[0][: shape[0], : shape[1]])
    rows, columns = placed.image.shape[2:]
    _, layers = run_and_list_layers(predictors[model].network, placed.image)
    for layer in layers:
        reduction = rows // layer.rows
        assert (layer.rows * reduction, layer.columns * reduction) == (rows, columns), layer
    assert max(rows // layer.rows for layer in layers) == 8


@pytest.mark.parametrize(("name", "patch"), [("unet", 72), ("cenet", 80)])
def test_layers_of_comparators_cover_the_networks_image_too(name, patch, tmp_path):
    """Their patches need not be multiples of what they take, as they pad by themselves."""
    predictor = load_predictor(write_model(tmp_path / name, COMPARATORS[name].architecture(PLANS, SCALE), patch))
    placed = place_frame(predictor, wire_frame(6, 130)[0][:64, :70])
    rows, columns = placed.image.shape[2:]
    _, layers = run_and_list_layers(predictor.network, placed.image)
    lowest = min(layers, key=lambda layer: layer.rows * layer.columns if layer.rows > 1 else rows * columns)
    multiple = predictor.network.size_multiple
    assert (lowest.rows * multiple, lowest.columns * multiple) == (rows, columns)


def test_a_compiled_network_sees_what_the_plain_one_sees(predictors, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "t")
    compiled = load_predictor(write_model(tmp_path / "compiled", FGANET, 68))
    assert isinstance(compiled.network, OptimizedModule)
    frame = wire_frame(6, 130)[0][:66, :70]
    assert torch.equal(place_frame(compiled, frame).image, place_frame(predictors["odd patch"], frame).image)
