"""The parts: curves, absorption, noise, motion and the measured contrast-to-noise ratio."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.phantom.collimation import Collimation, draw_collimation
from nnunet_fganet.phantom.contrast import contrast_to_noise
from nnunet_fganet.phantom.geometry import (
    STEP,
    integrate_heading,
    near_curve,
    resample,
    smooth_noise,
    wandering_heading,
)
from nnunet_fganet.phantom.guidewire import absorption_map, draw_guidewire, draw_mask
from nnunet_fganet.phantom.imaging import Imaging, draw_imaging
from nnunet_fganet.phantom.motion import draw_motion

seeds = st.integers(0, 2**32 - 1)


def line(x0, y0, x1, y1):
    return resample(np.array([[x0, y0], [x1, y1]], float), STEP)


@settings(max_examples=30)
@given(seed=seeds, radius=st.floats(10, 200))
def test_curves_keep_their_length(seed, radius):
    rng = np.random.default_rng(seed)
    curve = integrate_heading(np.zeros(2), wandering_heading(rng, 80, 0.3, radius))
    assert np.allclose(np.linalg.norm(np.diff(curve, axis=0), axis=1), STEP)
    thinned = resample(curve, 2.0)
    assert np.allclose(thinned[[0, -1]], curve[[0, -1]])
    assert np.linalg.norm(np.diff(thinned, axis=0), axis=1).max() <= 2.05


@settings(max_examples=15)
@given(seed=seeds)
def test_distance_to_a_curve_agrees_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    curve = integrate_heading(rng.uniform(8, 24, 2), wandering_heading(rng, 25, rng.uniform(0, 6), 40))
    rows, columns, distance, _ = near_curve(curve, (40, 40), 3.0)
    fine = resample(curve, 0.02)
    grid_y, grid_x = np.mgrid[:40, :40]
    exact = np.min(np.hypot(grid_x[..., None] - fine[:, 0], grid_y[..., None] - fine[:, 1]), axis=-1)
    assert np.abs(distance - exact[rows, columns]).max() < 0.55  # at the ends: rounded, within one step
    found = np.zeros((40, 40), bool)
    found[rows, columns] = True
    assert found[exact < 2.9].all() and not found[exact > 3.55].any()


def test_smooth_noise_has_unit_variance():
    samples = smooth_noise(np.random.default_rng(0), 200_000, 12.0)
    assert samples.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(samples[:-60], samples[60:])[0, 1]) < 0.1


@pytest.mark.parametrize("width", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("blur", [0.6, 1.0])
def test_absorption_after_the_blur_is_the_one_asked_for(width, blur):
    curve = line(5, 20, 75, 34)
    wire = cv2.GaussianBlur(absorption_map(curve, width, np.full(len(curve), 0.4), blur, 80), (0, 0), blur)
    across = wire[:, 30:50]
    assert across.max(axis=0).mean() == pytest.approx(0.4, rel=0.08)
    centre = (across * np.arange(80)[:, None]).sum(axis=0) / across.sum(axis=0)
    assert np.allclose(centre, 20 + (np.arange(30, 50) - 5) * 0.2, atol=0.1)


def test_mask_is_as_wide_as_the_wire_and_stays_in_the_window():
    window = np.zeros((80, 80), bool)
    window[:, :40] = True
    for width, drawn in ((1.0, 2.0), (3.0, 3.0)):
        mask = draw_mask(line(10.3, 10.2, 70.1, 60.4), width, window)
        assert not mask[:, 40:].any()
        length = np.hypot(59.8, 50.2) * (39.5 - 10.3) / 59.8
        assert mask.sum() / length == pytest.approx(drawn, rel=0.12)


@pytest.mark.parametrize("ratio", [0.0, 1.5, 4.0])
def test_contrast_to_noise_is_measured_right(ratio):
    rng = np.random.default_rng(4)
    frame = 120 + rng.normal(0, 8, (200, 200))
    curve = line(20, 30, 180, 30)
    frame[29:32, 20:181] -= ratio * 8
    frame += np.linspace(-20, 20, 200)[:, None]  # a slope across the wire cancels
    frame = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
    measured = contrast_to_noise(frame, curve, 3.0, np.ones(frame.shape, bool))
    assert measured == pytest.approx(ratio, abs=0.3)


def test_contrast_to_noise_uses_only_the_window():
    rng = np.random.default_rng(4)
    frame = np.clip(120 + rng.normal(0, 8, (100, 100)), 0, 255)
    frame[49:52] -= 24
    window = np.zeros((100, 100), bool)
    window[:55] = True
    frame[~window] = 0
    measured = contrast_to_noise(frame.astype(np.uint8), line(10, 50, 90, 50), 3.0, window)
    assert measured == pytest.approx(3, abs=0.5)
    assert contrast_to_noise(frame.astype(np.uint8), line(10, 50, 90, 50), 3.0, np.zeros_like(window)) is None


def imaging(**changes):
    settings = {
        "photons": np.array([50.0]),
        "level": np.array([110.0]),
        "gamma": 1.0,
        "scatter_to_primary": 0.5,
        "scatter_width": 12.8,
        "focal_blur": 0.4,
        "detector_blur": 0.5,
        "leak": 0.01,
    }
    return Imaging(**(settings | changes))


def open_field(size, is_black_outside=True):
    return Collimation(np.ones((size, size), np.float32), np.ones((size, size), bool), is_black_outside)


def test_exposure_follows_beer_lambert_and_photon_statistics():
    thick = np.zeros((256, 256), np.float32)
    machine = imaging(scatter_to_primary=0.0, leak=0.0)
    rng = np.random.default_rng(0)
    air = machine.expose(thick, 0.0, 0, open_field(256), rng)
    body = machine.expose(thick + 0.7, 0.0, 0, open_field(256), rng)
    assert air.mean() == pytest.approx(110, rel=0.02)
    assert body.mean() == pytest.approx(110 * np.exp(-0.7), rel=0.02)
    predicted = machine.noise_to_contrast(thick + 0.7, 0.0, 0).mean()
    assert body.std() / body.mean() == pytest.approx(predicted, rel=0.05)


def test_scatter_fills_shadows():
    step = np.zeros((128, 128), np.float32)
    step[:, 64:] = 2.0
    rng = np.random.default_rng(0)
    clear, hazy = (imaging(scatter_to_primary=share).expose(step, 0.0, 0, open_field(128), rng) for share in (0.0, 1.0))
    shadow_to_light = [image[:, 67:77].mean() / image[:, 50:60].mean() for image in (clear, hazy)]
    assert shadow_to_light[1] > 1.3 * shadow_to_light[0]


@settings(max_examples=25)
@given(seed=seeds)
def test_collimation_is_black_or_dark_outside(seed):
    rng = np.random.default_rng(seed)
    collimation = draw_collimation(rng, 96)
    assert collimation.window.mean() > 0.3
    frame = draw_imaging(rng, 3, 96).expose(np.zeros((96, 96), np.float32), 0.0, 1, collimation, rng)
    outside = ~cv2.dilate(collimation.window.astype(np.uint8), np.ones((15, 15))).astype(bool)
    if outside.any():
        assert frame[outside].mean() < 0.4 * frame[collimation.window].mean()
        if collimation.is_black_outside:
            assert not frame[~collimation.window].any()


@settings(max_examples=40)
@given(seed=seeds, time=st.floats(0, 60))
def test_motion_stays_within_its_reach(seed, time):
    motion = draw_motion(np.random.default_rng(seed), 256)
    corners = np.array([[0, 0], [255, 0], [0, 255], [255, 255]], float)
    assert np.linalg.norm(motion.displace(corners, time) - corners, axis=1).max() <= motion.reach


@settings(max_examples=15)
@given(seed=seeds)
def test_guidewires_end_inside_the_window_in_every_frame(seed):
    rng = np.random.default_rng(seed)
    window = draw_collimation(rng, 128).window
    motion = draw_motion(rng, 128)
    wire = draw_guidewire(rng, window, motion, frames=12)
    for frame in range(12):
        x, y = np.rint(wire.curve(frame, motion)[-1]).astype(int)
        assert window[y, x]
        assert 0.1 * 128 < wire.inserted[frame] - wire.entry < 3 * 128
