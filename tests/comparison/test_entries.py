"""Rows of the two tables, and the plans that train them."""

import copy
import json

import pytest
from comparator_plans import PLANS, REGION, plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_fganet.comparators.registry import COMPARATORS
from nnunet_fganet.comparison.entries import (
    ablated_entries,
    budget_of,
    check_ablation,
    compared_entries,
    configurations_of,
    parameters_of,
    with_budget,
)
from nnunet_fganet.errors import InputError
from nnunet_fganet.training.settings import TrainingSettings

OURS, THEIRS = "nnUNetTrainerFGANet", "nnUNetTrainerComparator"


def settings(configurations, name):
    """As the trainer reads them: through nnU-Net's inheritance."""
    manager = PlansManager({**plans(), "configurations": {**plans()["configurations"], **configurations}})
    return TrainingSettings.from_configuration(manager.get_configuration(name).configuration)


def test_each_network_once_and_fganet_by_its_own_trainer():
    entries = compared_entries([*COMPARATORS, "unet"])
    assert [entry.name for entry in entries] == list(COMPARATORS)
    assert {entry.name: entry.trainer for entry in entries} == {name: THEIRS for name in COMPARATORS} | {"fganet": OURS}


def test_both_losses_tell_the_networks_share_from_the_losss():
    entries = compared_entries(["unet", "fganet"], "both")
    told = {entry.name: (entry.trainer, entry.loss, entry.network) for entry in entries}
    assert told == {
        "unet": (THEIRS, "nnunet", "unet"),
        "unet_fganet_loss": (THEIRS, "fganet", "unet"),
        "fganet": (OURS, "fganet", "fganet"),
        "fganet_nnunet_loss": (THEIRS, "nnunet", "fganet"),
    }
    assert len({entry.configuration for entry in entries}) == 4
    assert [entry.name for entry in compared_entries(["unet"], "fganet")] == ["unet_fganet_loss"]


def test_an_unknown_network_is_named():
    with pytest.raises(InputError, match=r"unett: no such network; choose from unet, "):
        compared_entries(["fganet", "unett"])


@pytest.mark.parametrize("entries", [compared_entries(list(COMPARATORS), "both"), ablated_entries()])
def test_all_train_with_one_budget_on_the_same_frames(entries):
    configurations = configurations_of(entries, with_budget(PLANS, 7, 20), REGION, (0, 5))
    assert len(configurations) == 2 * len(entries)
    assert json.loads(json.dumps(configurations)) == configurations  # written and read again they are the same
    for name in configurations:
        read = settings(configurations, name)
        assert (read.epochs, read.iterations, read.validation_iterations) == (7, 20, 4)
        assert read.seed == int(name[-1])
        assert "__" not in name  # nnU-Net takes folder names apart there
    manager = PlansManager({**plans(), "configurations": {**plans()["configurations"], **configurations}})
    identifiers = {manager.get_configuration(name).data_identifier for name in configurations}
    assert identifiers == {"nnUNetFGANetPlans_2d"}


def test_without_a_budget_that_of_the_plans_holds():
    assert budget_of(with_budget(PLANS, None, None)) == {"epochs": 3, "iterations": 2, "validation_iterations": 50}
    assert budget_of(with_budget(PLANS, None, 3))["validation_iterations"] == 1
    assert PLANS["configurations"]["2d"]["fganet"]["epochs"] == 3  # what is given is not changed


def test_settings_that_are_null_are_the_defaults():
    plans = copy.deepcopy(PLANS)
    plans["configurations"]["2d"]["fganet"] = None
    configurations = configurations_of(compared_entries(["fganet", "unet"]), plans, REGION, (0,))
    assert configurations["2d_seed0"]["fganet"] == {"seed": 0}
    assert budget_of(with_budget(plans, 7, None))["epochs"] == 7
    assert plans["configurations"]["2d"]["fganet"] is None


def test_the_ablation_takes_away_one_part_after_the_other():
    entries = ablated_entries()
    configurations = configurations_of(entries, PLANS, REGION, (0,))
    parts, alphas, parameters = {}, {}, {}
    for entry in entries:
        configuration = configurations[f"{entry.configuration}_seed0"]
        arguments = configuration["architecture"]["arch_kwargs"]
        parts[entry.name] = (arguments.get("sda", True), arguments.get("bga", True))
        alphas[entry.name] = settings(configurations, f"{entry.configuration}_seed0").alpha
        parameters[entry.name] = parameters_of(configuration, PLANS, REGION)
    assert parts == {
        "baseline": (False, False),
        "bga": (False, True),
        "sda": (True, False),
        "both_dice": (True, True),
        "fganet": (True, True),
    }
    assert alphas == {"baseline": 0.25, "bga": 0.25, "sda": 0.25, "both_dice": 0, "fganet": 0.25}
    assert parameters["baseline"] < min(parameters["bga"], parameters["sda"])
    assert max(parameters["bga"], parameters["sda"]) < parameters["fganet"] == parameters["both_dice"]


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [({"sda": False}, {}, "sda"), ({"bga": False}, {"alpha": 0}, "bga and clDice")],
)
def test_plans_without_a_part_cannot_be_ablated(arguments, settings, named):
    lacking = plans()
    lacking["configurations"]["2d"]["architecture"]["arch_kwargs"] |= arguments
    lacking["configurations"]["2d"]["fganet"] |= settings
    check_ablation(PLANS)
    with pytest.raises(InputError, match=f"leave {named} out already"):
        check_ablation(lacking)
