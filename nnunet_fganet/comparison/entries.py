"""What is compared: the rows of the two tables, and the configuration of nnU-Net's plans that trains each."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_fganet.comparators.configurations import comparator_configurations, configuration_name
from nnunet_fganet.comparators.registry import COMPARATORS
from nnunet_fganet.errors import InputError
from nnunet_fganet.planning.planner import CONFIGURATION
from nnunet_fganet.training.settings import COMPARATOR_LOSSES, PLANS_KEY, TrainingSettings

Plans = Mapping[str, Any]

FGANET_TRAINER, COMPARATOR_TRAINER = "nnUNetTrainerFGANet", "nnUNetTrainerComparator"
REFERENCE = "fganet"
BOTH_LOSSES = "both"


@dataclass(frozen=True)
class Entry:
    """One row of a table.

    Attributes
    ----------
    name
        One word; names files.
    title
        Its name in the table.
    network
        Rows with the same one have the same architecture, so that it is counted and timed once.
    trainer
        nnU-Net's ``-tr``.
    configuration
        Its configuration in the plans, without the seed.
    loss
        See :func:`nnunet_fganet.comparators.configurations.comparator_configurations`; of ``nnUNetTrainerComparator``.
    arguments, settings
        Changes to the planned FGA-Net and to its training; of ``nnUNetTrainerFGANet``.
    """

    name: str
    title: str
    network: str
    trainer: str
    configuration: str
    loss: str = "fganet"
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


def compared_entries(networks: Sequence[str], losses: str = "nnunet") -> list[Entry]:
    """Rows of Table 1.

    FGA-Net is trained by its own trainer, with its own loss, always. Asked for both losses, it is trained
    like a comparator too, with nnU-Net's.

    Parameters
    ----------
    networks
        Names of :data:`nnunet_fganet.comparators.registry.COMPARATORS`.
    losses
        ``nnunet``, ``fganet`` or ``both``: what the comparators are trained with.

    Raises
    ------
    InputError
        A network is not known.
    """
    unknown = [name for name in networks if name not in COMPARATORS]
    if unknown:
        raise InputError(f"--networks {', '.join(unknown)}: no such network; choose from {', '.join(COMPARATORS)}.")
    chosen = COMPARATOR_LOSSES if losses == BOTH_LOSSES else (losses,)
    entries = []
    for network in dict.fromkeys(networks):
        if network == REFERENCE:
            entries.append(Entry(REFERENCE, "FGA-Net", REFERENCE, FGANET_TRAINER, CONFIGURATION))
            if losses == BOTH_LOSSES:
                entries.append(
                    _comparator(network, "nnunet", f"{network}_nnunet_loss", ", nnU-Net's loss and optimizer")
                )
            continue
        for loss in chosen:
            name, suffix = (network, "") if loss == "nnunet" else (f"{network}_fganet_loss", ", FGA-Net's loss")
            entries.append(_comparator(network, loss, name, suffix))
    return entries


def _comparator(network: str, loss: str, name: str, suffix: str) -> Entry:
    title = COMPARATORS[network].title + suffix
    return Entry(name, title, network, COMPARATOR_TRAINER, configuration_name(network, loss), loss)


def ablated_entries() -> list[Entry]:
    """Rows of Table 2; all but "BCE + Dice" are trained with clDice (docs/comparison.md says why)."""

    def row(name: str, title: str, network: str, arguments: dict[str, Any], settings: dict[str, Any]) -> Entry:
        configuration = f"{CONFIGURATION}_{name}"
        return Entry(name, title, network, FGANET_TRAINER, configuration, arguments=arguments, settings=settings)

    return [
        row("baseline", "Baseline", "baseline", {"sda": False, "bga": False}, {}),
        row("bga", "+ BGA", "bga", {"sda": False}, {}),
        row("sda", "+ SDA", "sda", {"bga": False}, {}),
        row("both_dice", "Both, BCE + Dice", REFERENCE, {}, {"alpha": 0.0}),
        Entry(REFERENCE, "Both, with clDice (FGA-Net)", REFERENCE, FGANET_TRAINER, CONFIGURATION),
    ]


def check_ablation(plans: Plans) -> None:
    """Raise InputError where the planned FGA-Net lacks something that the ablation is to take away."""
    planned = plans["configurations"][CONFIGURATION]
    arguments = planned["architecture"]["arch_kwargs"]
    lacking = [part for part in ("sda", "bga") if not arguments.get(part, True)]
    if TrainingSettings.from_configuration(planned).alpha == 0:
        lacking.append("clDice")
    if lacking:
        raise InputError(
            f"the plans {plans['plans_name']} leave {' and '.join(lacking)} out already: "
            "ablate plans with all parts (fganet plan without --no-sda, --no-bga, --alpha 0)."
        )


def with_budget(plans: Plans, epochs: int | None, iterations: int | None) -> dict[str, Any]:
    """Plans whose trainings have this budget; None leaves that of the plans.

    Validation batches are a fifth of the training batches, as ``fganet plan`` has them.
    """
    changed = copy.deepcopy(dict(plans))
    planned = changed["configurations"][CONFIGURATION]
    settings = planned[PLANS_KEY] = planned.get(PLANS_KEY) or {}
    if epochs is not None:
        settings["epochs"] = epochs
    if iterations is not None:
        settings |= {"iterations": iterations, "validation_iterations": max(1, iterations // 5)}
    return changed


def budget_of(plans: Plans) -> dict[str, int]:
    """Epochs, iterations and validation iterations of plans."""
    settings = asdict(TrainingSettings.from_configuration(plans["configurations"][CONFIGURATION]))
    return {name: settings[name] for name in ("epochs", "iterations", "validation_iterations")}


def seeded_configuration(entry: Entry, seed: int) -> str:
    """Name of the configuration that trains an entry with a seed: ``-c`` of nnU-Net's commands."""
    return f"{entry.configuration}_seed{seed}"


def configurations_of(
    entries: Sequence[Entry], plans: Plans, dataset_json: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, Any]:
    """What belongs under ``configurations`` of the plans, for each entry and seed.

    Raises
    ------
    InputError
        A network does not fit the patch, or its library is missing.
    """
    configurations = {}
    for entry in entries:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what torch will change, from libraries of networks
            configuration = _configuration(entry, plans, dataset_json)
        for seed in seeds:
            settings = {**configuration[PLANS_KEY], "seed": seed}
            configurations[seeded_configuration(entry, seed)] = {**configuration, PLANS_KEY: settings}
    return configurations


def _configuration(entry: Entry, plans: Plans, dataset_json: Mapping[str, Any]) -> Mapping[str, Any]:
    if entry.trainer == COMPARATOR_TRAINER:
        [configuration] = comparator_configurations(plans, dataset_json, [entry.network], entry.loss).values()
        return configuration
    # Built once for its check: the planned FGA-Net fits the patch, and there is one in the plans at all.
    [planned] = comparator_configurations(plans, dataset_json, [REFERENCE], "fganet").values()
    architecture = planned["architecture"]
    return {
        "inherits_from": CONFIGURATION,
        "architecture": {**architecture, "arch_kwargs": {**architecture["arch_kwargs"], **entry.arguments}},
        PLANS_KEY: {**(plans["configurations"][CONFIGURATION].get(PLANS_KEY) or {}), **entry.settings},
    }


def parameters_of(configuration: Mapping[str, Any], plans: Plans, dataset_json: Mapping[str, Any]) -> int:
    """Parameters of a configuration's network, built without memory (meta tensors)."""
    architecture = configuration["architecture"]
    with torch.device("meta"):
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            len(dataset_json["channel_names"]),
            PlansManager(dict(plans)).get_label_manager(dict(dataset_json)).num_segmentation_heads,
            allow_init=False,
        )
    return sum(parameter.numel() for parameter in network.parameters())
