"""The terminal's short lines, from lines that nnU-Net 2.8.1 wrote."""

import pytest

from nnunet_fganet.commands.watchers import EpochWatcher, FrameWatcher, keep_silent

EPOCH = """\
2026-11-22 19:04:10.908316: Epoch {epoch}
2026-11-22 19:04:10.908468: Current learning rate: 0.01995
2026-11-22 19:04:32.209950: train_loss {loss}
2026-11-22 19:04:32.210222: val_loss 1.9983
2026-11-22 19:04:32.210270: Pseudo dice {dice}
2026-11-22 19:04:32.210324: Epoch time: {seconds} s
2026-11-22 19:04:32.310324: Yayy! New best EMA pseudo Dice: 0.2
"""


def shown(watcher: EpochWatcher, **values: object) -> list[str]:
    return [line for line in map(watcher, EPOCH.format(**values).splitlines()) if line]


def test_an_epoch_becomes_one_line_with_the_time_that_is_left() -> None:
    watcher = EpochWatcher(epochs=4)
    [line] = shown(watcher, epoch=0, loss="2.0249", dice="[np.float32(0.4567)]", seconds="21.3")
    assert " ".join(line.split()) == "epoch 1/4 loss 2.0249 validation Dice 0.4567 21.3 s about 1.1 min left"
    [line] = shown(watcher, epoch=1, loss="-0.5", dice="[np.float32(0.5)]", seconds="38.7")
    assert " ".join(line.split()) == "epoch 2/4 loss -0.5000 validation Dice 0.5000 38.7 s about 1.0 min left"


def test_a_training_that_goes_on_counts_from_its_epoch() -> None:
    [line] = shown(EpochWatcher(epochs=30), epoch=28, loss="1", dice="[np.float32(nan)]", seconds="60")
    assert "epoch  29/30" in line
    assert "about 1.0 min left" in line


@pytest.mark.parametrize(
    ("listed", "mean"),
    [
        ("[np.float32(1e-04)]", "0.0001"),
        ("[0.25]", "0.2500"),
        ("[np.float32(0.5), np.float32(0.75)]", "0.6250"),
        ("[np.float32(nan), np.float32(1.0)]", "1.0000"),
        ("[nan, nan]", "nan"),
    ],
)
def test_dice_is_the_mean_of_the_classes_that_have_one(listed: str, mean: str) -> None:
    [line] = shown(EpochWatcher(epochs=4), epoch=0, loss="1", dice=listed, seconds="1")
    assert f"validation Dice {mean:>6} " in line


def test_predicted_frames_are_counted() -> None:
    watcher = FrameWatcher(every=2)
    lines = [
        "Predicting a_000:",
        "done with a_000",
        "perform_everything_on_device: False",
        "done with a_001",
        "done with b",
    ]
    assert [watcher(line) for line in lines] == [None, None, None, "2 frames", None]


def test_silence() -> None:
    assert keep_silent("anything") is None
