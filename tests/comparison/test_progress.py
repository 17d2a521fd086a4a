"""What the terminal shows while networks train: lines of nnU-Net 2.8.1, and the time that is left."""

import pytest

from nnunet_fganet.comparison.progress import RunWatcher, duration, time_left

LINES = """\
2026-11-22 19:04:10.908316: Epoch {epoch}
2026-11-22 19:04:32.209950: train_loss 1.5
2026-11-22 19:04:32.210270: Pseudo dice [np.float32(0.4567)]
2026-11-22 19:04:32.210324: Epoch time: {seconds} s
"""


def test_time_left_by_what_each_network_took_so_far() -> None:
    assert time_left([("unet", 10), ("cenet", 5)], {"unet": [1, 3], "cenet": [4.0]}) == 10 * 2 + 5 * 4


def test_a_network_that_has_not_run_yet_is_taken_for_an_average_one() -> None:
    assert time_left([("unet", 1), ("cenet", 10)], {"unet": [2.0], "fganet": [6.0], "cenet": []}) == 2 + 10 * 4


def test_each_run_that_is_left_takes_its_start_and_validation_too() -> None:
    left, measured = [("unet", 10), ("unet", 0), ("cenet", 5)], {"unet": [2.0], "cenet": [4.0]}
    assert time_left(left, measured, [30.0, 50.0]) == time_left(left, measured) + 3 * 40


def test_nothing_is_said_before_the_first_epoch() -> None:
    assert time_left([("unet", 1)], {}) is None
    assert time_left([("unet", 1)], {}, [30.0]) is None
    assert time_left([("unet", 1)], {"unet": []}) is None


@pytest.mark.parametrize(("seconds", "said"), [(41.2, "41 s"), (600, "10 min"), (5400, "1.5 h"), (90000, "25.0 h")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_line_an_epoch_with_the_time_of_all_trainings() -> None:
    asked = []

    def all_left(epochs_done: int, seconds: float) -> float:
        asked.append((epochs_done, seconds))
        return 7200

    watcher = RunWatcher(4, all_left)
    lines = [line for line in map(watcher, LINES.format(epoch=2, seconds=21.3).splitlines()) if line]
    assert asked == [(3, 21.3)]
    assert len(lines) == 1
    assert lines[0].startswith("epoch   3/4") and lines[0].endswith("; all trainings: 2.0 h")
    predicting = [
        "19:04: predicting case_000",
        "19:04: case_000, shape torch.Size([1, 1, 64, 64])",
        "predicting case_001",
    ]
    assert [watcher(line) for line in predicting] == ["predicting the validation frames", None, None]
