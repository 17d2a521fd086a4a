"""Models that were trained with plans, and what of the plans their predictions depend on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

_KEYS = ("architecture", "patch_size", "spacing", "normalization_schemes", "use_mask_for_norm")


def settings_of_prediction(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Settings of a configuration that its trained weights need; other ones (budget, loss) may change between folds."""
    if configuration not in plans["configurations"]:
        return {}
    settings = PlansManager(dict(plans)).get_configuration(configuration).configuration
    return {key: settings.get(key) for key in _KEYS}


def models_of_other_plans(results: Path, plans: Mapping[str, Any], plans_name: str) -> list[Path]:
    """Trained models of these plans' name whose own plans predict otherwise.

    Parameters
    ----------
    results
        nnU-Net's results of the data set, ``nnUNet_results/DatasetXXX_NAME``.
    plans
        The plans now.
    plans_name
        Their name.

    Returns
    -------
    folders
        ``TRAINER__PLANS__CONFIGURATION`` with at least one checkpoint.
    """
    found = []
    for model in sorted(results.glob(f"*__{plans_name}__*")):
        configuration = model.name.rpartition("__")[2]
        try:
            own = json.loads((model / "plans.json").read_text(encoding="utf-8"))
            is_other = settings_of_prediction(own, configuration) != settings_of_prediction(plans, configuration)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no model
        if is_other and any(model.glob("fold_*/checkpoint_*.pth")):
            found.append(model)
    return found
