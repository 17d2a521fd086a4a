"""Configurations of nnU-Net plans that train the comparators on equal terms with FGA-Net."""

import json
import pydoc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_fganet.comparators.registry import COMPARATORS, Architecture, Plans, width_scale_of
from nnunet_fganet.errors import InputError
from nnunet_fganet.files import written_beside
from nnunet_fganet.planning.planner import CONFIGURATION
from nnunet_fganet.training.settings import COMPARATOR_LOSSES, PLANS_KEY

PRETRAINED = ("cenet", "deeplabv3plus")
OWNER_KEY = "comparison"


def configuration_name(name: str, loss: str = "nnunet") -> str:
    """Name of a comparator's configuration: ``-c`` of nnU-Net's commands."""
    return f"{CONFIGURATION}_{name}" if loss == "nnunet" else f"{CONFIGURATION}_{name}_{loss}_loss"


def comparator_configurations(
    plans: Plans,
    dataset_json: Mapping[str, Any],
    names: Sequence[str],
    loss: str = "nnunet",
    width_scale: float | None = None,
    encoder_weights: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Configurations that inherit all from ``2d`` but the network, and say which loss trains it.

    Each network is built once without memory (meta tensors) and sent a patch, so that what cannot be
    trained is named before hours of training.

    Parameters
    ----------
    plans
        Plans of ``fganet plan``.
    dataset_json
        Of the data set: how many channels and classes the networks have.
    names
        Some of :data:`nnunet_fganet.comparators.registry.COMPARATORS`.
    loss
        ``nnunet``: nnU-Net's own; ``fganet``: ours.
    width_scale
        Factor of all widths but FGA-Net's, which are those of the plans; None: as the planned FGA-Net
        is to the released one.
    encoder_weights
        File of pretrained encoder weights by comparator (``cenet``: of torchvision's ResNet-34,
        ``deeplabv3plus``: of timm's Xception-65), for a ``width_scale`` of 1.

    Returns
    -------
    dict
        By the names of :func:`configuration_name`, what belongs under ``configurations`` of the plans.

    Raises
    ------
    InputError
        A name, loss or file is not known, a network does not fit the patch, or its library is missing.
    """
    _check_names(names, loss, encoder_weights or {})
    scale = width_scale_of(plans) if width_scale is None else width_scale
    configurations = {}
    for name in names:
        architecture = COMPARATORS[name].architecture(plans, scale)
        _check_fits(name, architecture, plans, dataset_json)
        settings = (plans["configurations"][CONFIGURATION].get(PLANS_KEY) or {}) | {"comparator_loss": loss}
        if name != "fganet":
            settings.pop("stage_weights", None)  # of FGA-Net's six outputs
        if encoder_weights and name in encoder_weights:
            settings["encoder_weights_file"] = str(encoder_weights[name].resolve())
        configurations[configuration_name(name, loss)] = {
            "inherits_from": CONFIGURATION,
            "architecture": architecture,
            PLANS_KEY: settings,
        }
    return configurations


def write_comparator_plans(
    plans_file: Path, target: Path, configurations: Mapping[str, Any], owner: str | None = None
) -> None:
    """Write plans with these configurations beside those of ``plans_file``; nothing happens where they are there.

    Parameters
    ----------
    plans_file
        Plans of ``fganet plan``.
    target
        The new plans file in the same folder; its name without ``.json`` is nnU-Net's ``-p``. Comparators
        that an earlier run put there stay.
    configurations
        See :func:`comparator_configurations`.
    owner
        Run folder of the comparison that the plans are for; kept in them under :data:`OWNER_KEY`.

    Raises
    ------
    InputError
        ``target`` has a configuration of the same name that differs.
    """
    plans = json.loads(plans_file.read_text())
    earlier = json.loads(target.read_text()) if target.is_file() else {"configurations": {}}
    new = {**plans["configurations"], **configurations}
    differing = [name for name in new if earlier["configurations"].get(name, new[name]) != new[name]]
    if differing:
        raise InputError(f"{target} holds other plans for {', '.join(differing)}: name another file, or remove it.")
    plans |= {"plans_name": target.stem, "configurations": {**earlier["configurations"], **new}}
    if owner is not None:
        plans[OWNER_KEY] = owner
    if plans == earlier:
        return
    with written_beside(target, overwrite=True) as partial:
        partial.write_text(json.dumps(plans, indent=4))


def _check_names(names: Sequence[str], loss: str, encoder_weights: Mapping[str, Path]) -> None:
    unknown = [name for name in names if name not in COMPARATORS]
    if unknown:
        raise InputError(f"{', '.join(unknown)}: no such comparator; choose from {', '.join(COMPARATORS)}.")
    if loss not in COMPARATOR_LOSSES:
        raise InputError(f"{loss}: no such loss; choose from {', '.join(COMPARATOR_LOSSES)}.")
    for name, file in encoder_weights.items():
        if name not in PRETRAINED:
            raise InputError(
                f"{file} is for the encoder of {name}, which takes no weights; {' and '.join(PRETRAINED)} do."
            )
        if not file.is_file():
            raise InputError(f"{file}, weights for the encoder of {name}, does not exist: name another file.")


def _check_fits(name: str, architecture: Architecture, plans: Plans, dataset_json: Mapping[str, Any]) -> None:
    patch = plans["configurations"][CONFIGURATION]["patch_size"]
    channels = len(dataset_json["channel_names"])
    classes = PlansManager(dict(plans)).get_label_manager(dict(dataset_json)).num_segmentation_heads
    try:
        with torch.device("meta"):
            network = get_network_from_plans(
                architecture["network_class_name"],
                architecture["arch_kwargs"],
                architecture["_kw_requires_import"],
                channels,
                classes,
                allow_init=False,
                deep_supervision=False,
            )
            network.eval()(torch.empty(1, channels, *patch))
    except pydoc.ErrorDuringImport as error:
        raise InputError(f"{name} needs a library ({error.value}): pip install 'nnunet_fganet[compare]'.") from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{name} does not take patches of {patch} px ({error}): plan with another --patch.") from error
