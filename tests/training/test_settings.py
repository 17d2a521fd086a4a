import json
from dataclasses import asdict

import pytest

from nnunet_fganet.training.settings import TrainingSettings


def test_stock_plans_give_the_defaults():
    assert TrainingSettings.from_configuration({"batch_size": 12}) == TrainingSettings()


def test_settings_survive_the_plans_file():
    settings = TrainingSettings(epochs=3, alpha=0.1, stage_weights=(1.0, 0.5), precision="float32", dice="linear")
    plans = json.loads(json.dumps({"fganet": asdict(settings)}))
    assert TrainingSettings.from_configuration(plans) == settings


def test_unknown_key_is_named():
    with pytest.raises(ValueError, match="epoch_s"):
        TrainingSettings.from_configuration({"fganet": {"epoch_s": 3}})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("validation_iterations", 0),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("alpha", 1.0),
        ("skeleton_iterations", 0),
        ("cross_entropy_weight", -0.5),
        ("dice", "cubic"),
        ("seed", -1),
        ("comparator_loss", "dice"),
        ("precision", "float64"),
    ],
)
def test_value_outside_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        TrainingSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "10", "an integer, not '10'"),
        ("skeleton_iterations", 10.0, "an integer, not 10.0"),
        ("iterations", True, "an integer, not True"),
        ("seed", 0.5, "an integer, not 0.5"),
        ("alpha", "0.25", "a finite number, not '0.25'"),
        ("learning_rate", float("inf"), "a finite number, not inf"),
        ("weight_decay", float("nan"), "a finite number, not nan"),
        ("stage_weights", [1, float("nan")], "a list of numbers"),
        ("dice", None, "a text, not None"),
        ("encoder_weights_file", 3, "a text, not 3"),
        ("stage_weights", 1, "a list of numbers, all finite, not 1"),
        ("stage_weights", ["1"], "a list of numbers"),
        ("stage_weights", [], "at least one"),
    ],
)
def test_value_of_another_type_is_named(name, value, expected):
    with pytest.raises(ValueError, match=f"{name} must be {expected}"):
        TrainingSettings.from_configuration({"fganet": {name: value}})


def test_integers_are_numbers():
    assert TrainingSettings.from_configuration({"fganet": {"alpha": 0, "learning_rate": 1}}).learning_rate == 1
