"""Curves of trainings, and when a loss counts as flat."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_fganet.comparison.curves import flatness, kept_curves
from nnunet_fganet.errors import InputError


def decay(time_constants: float, epochs: int = 100, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """An exponential decay that ends after so many time constants."""
    return offset + scale * np.exp(-time_constants * np.arange(epochs) / epochs)


@pytest.mark.parametrize(("time_constants", "is_flat"), [(1, False), (3, False), (5, True), (8, True)])
def test_a_decay_is_flat_after_more_than_four_of_its_time_constants(time_constants: float, is_flat: bool) -> None:
    judged = flatness(decay(time_constants))
    assert judged.is_flat is is_flat
    assert judged.verdict == ("flat" if is_flat else "still falling")


def test_the_fall_is_that_of_the_last_fifth() -> None:
    """By hand: from 10 straight down to 2, then by 0.1 an epoch over the last 4 of 20 epochs."""
    losses = [*np.linspace(10, 2.2, 16), 2.0, 1.9, 1.8, 1.7]
    assert flatness(losses).fall == pytest.approx(4 * 0.1 / (10 - 1.85))


@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_scale_and_offset_of_the_loss_do_not_matter(scale: float, offset: float) -> None:
    assert flatness(decay(3, scale=scale, offset=offset)).fall == pytest.approx(flatness(decay(3)).fall, rel=1e-3)


def test_a_flat_end_stays_flat_under_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.005, 100)
    assert flatness(decay(10) + noise).is_flat
    assert not flatness(decay(1) + noise).is_flat


@pytest.mark.parametrize(("end", "verdict"), [(0.04, "flat"), (0.09, "rising"), (0.5, "rising")])
def test_a_loss_that_rises_at_the_end_is_not_flat_beyond_noise(end: float, verdict: str) -> None:
    """By hand: a straight rise by ``end`` - 0.01 in the last fifth; the whole fall is from 1 to the mean of it."""
    judged = flatness([*decay(5, 80), *np.linspace(0.01, end, 20)])
    assert judged.fall == pytest.approx(-20 / 19 * (end - 0.01) / (1 - (0.01 + end) / 2))
    assert (judged.verdict, judged.is_flat) == (verdict, verdict == "flat")


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        (np.ones(14), "too short to tell (fewer than 15 epochs)"),
        (np.linspace(1, 2, 50), "never fell"),
        ([*decay(5, 99), np.nan], "never fell"),
    ],
)
def test_what_cannot_be_judged_is_no_result(losses: np.ndarray, verdict: str) -> None:
    judged = flatness(losses)
    assert (judged.fall, judged.is_flat, judged.verdict) == (None, False, verdict)


def write_checkpoint(path: Path, train_losses: list[float]) -> None:
    logged = {
        "train_losses": [np.float32(loss) for loss in train_losses],
        "val_losses": [2.5, 1.5],
        "mean_fg_dice": [0.1, float("nan")],
        "ema_fg_dice": [0.1, 0.2],
        "dice_per_class_or_region": [[0.1], [0.3]],
        "lrs": [0.1, 0.05],
        "epoch_start_timestamps": [100.0, 103.0],
        "epoch_end_timestamps": [102.0, 106.0],
    }
    torch.save({"logging": logged}, path)


def test_curves_are_read_from_a_checkpoint_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, kept = tmp_path / "checkpoint_final.pth", tmp_path / "curves" / "run.json"
    write_checkpoint(checkpoint, [2, 1])
    first = kept_curves(checkpoint, kept)
    assert (first.train_loss, first.validation_loss, first.seconds) == ([2, 1], [2.5, 1.5], [2, 3])
    monkeypatch.setattr(torch, "load", pytest.fail)
    again = kept_curves(checkpoint, kept)
    assert again.train_loss == first.train_loss and np.isnan(again.pseudo_dice[1])
    assert set(json.loads(kept.read_text())) == set(vars(first))


def test_curves_of_an_earlier_training_are_not_taken(tmp_path: Path) -> None:
    """The user removed the training, and it was trained anew."""
    checkpoint, kept = tmp_path / "checkpoint_final.pth", tmp_path / "run.json"
    write_checkpoint(checkpoint, [2, 1])
    kept_curves(checkpoint, kept)
    checkpoint.unlink()
    write_checkpoint(checkpoint, [4, 3])
    later = kept.stat().st_mtime + 60  # epochs later
    os.utime(checkpoint, (later, later))
    assert kept_curves(checkpoint, kept).train_loss == [4, 3]
    assert json.loads(kept.read_text())["train_loss"] == [4, 3]


def test_curves_that_were_cut_off_are_read_again(tmp_path: Path) -> None:
    checkpoint, kept = tmp_path / "checkpoint_final.pth", tmp_path / "run.json"
    write_checkpoint(checkpoint, [2, 1])
    kept.write_text('{"train_loss": [2')
    assert kept_curves(checkpoint, kept).train_loss == [2, 1]


@pytest.mark.parametrize("kept_bytes", [0, 100, -100])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, kept_bytes: int) -> None:
    checkpoint = tmp_path / "checkpoint_final.pth"
    write_checkpoint(checkpoint, [2, 1])
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept_bytes])
    with pytest.raises(InputError, match=f"{checkpoint} cannot be read: it is damaged"):
        kept_curves(checkpoint, tmp_path / "run.json")
    assert not (tmp_path / "run.json").exists()
