"""nnU-Net's planner for FGA-Net: plans that hold the network and every training setting."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunet_fganet.errors import InputError
from nnunet_fganet.files import written_beside
from nnunet_fganet.network.fganet import RELEASED_FEATURES
from nnunet_fganet.planning.json_files import read_json
from nnunet_fganet.planning.memory import training_memory_gb
from nnunet_fganet.planning.wire_width import skeleton_iterations
from nnunet_fganet.training.fganet_trainer import FGANET_CLASS_NAME
from nnunet_fganet.training.settings import DEFAULT_NETWORK, PLANS_KEY, TrainingSettings

PLANS_NAME = "nnUNetFGANetPlans"
_WORKERS = "nnUNet_n_proc_DA"  # of a training, in the environment
CONFIGURATION = "2d"
STOCK_CONFIGURATION = "2d_stock"
PAPER_PATCH = 512
PAPER_BATCH = 8
FEWEST_STOCK_STAGES = 3
MINIMUM_BATCH = 2  # BatchNorm needs more than one image
PAPER_GPU_MEMORY_GB = 24.0  # RTX 4090


@dataclass
class PlanningOptions:
    """What a user may ask of the planner; None lets the data decide.

    Parameters
    ----------
    patch
        ``(height, width)`` in px; None: 512 x 512, or less where the frames are smaller.
    batch
        Patches a step; None: 8, or what ``gpu_memory_gb`` holds.
    gpu_memory_gb
        Memory to plan for, in GB; the paper's card has 24.
    network
        Keyword arguments of :class:`nnunet_fganet.network.fganet.FGANet`.
    training
        Keyword arguments of :class:`nnunet_fganet.training.settings.TrainingSettings`. Without
        ``skeleton_iterations`` the thickest wire of the training labels decides.
    overwrite
        Replace other plans of the same name.
    """

    patch: tuple[int, int] | None = None
    batch: int | None = None
    gpu_memory_gb: float = PAPER_GPU_MEMORY_GB
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False


class FGANetPlanner(ExperimentPlanner):
    """Plans with FGA-Net as architecture and mask-guided z-score, patch and batch as in the paper.

    nnU-Net's rule that a batch covers at most 5 % of the data set does not apply: with few images it
    would feed BatchNorm with two.
    """

    options: PlanningOptions = PlanningOptions()  # nnU-Net constructs planners itself: set on a subclass

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        """Normalise over the non-zero pixels always, not only where a quarter of the frame is cropped."""
        schemes, _ = super().determine_normalization_scheme_and_whether_mask_is_used_for_norm()
        return schemes, [True] * len(schemes)

    def get_plans_for_configuration(
        self,
        spacing: np.ndarray | Sequence[float],
        median_shape: np.ndarray | Sequence[int],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict[str, Any]:
        """nnU-Net's configuration with our architecture, patch, batch and training settings.

        Raises
        ------
        InputError
            The configuration is three-dimensional.
        """
        if len(spacing) != 2:
            raise InputError(
                f"{self.dataset_name} holds volumes, but FGA-Net segments two-dimensional frames: "
                "convert single frames (fganet convert), or use nnUNetv2_plan_and_preprocess for volumes."
            )
        with _at_least_one_worker():
            plan = super().get_plans_for_configuration(
                spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
            )
        self._stock_architecture = plan["architecture"]
        patch = self.options.patch or fitted_patch(self._frame_size())
        architecture = network_plan(self.options.network)
        settings = self._settings()
        plan["patch_size"] = list(patch)
        plan["architecture"] = architecture
        plan["batch_size"] = self.options.batch or self._batch(architecture, patch, settings.skeleton_iterations)
        # As JSON reads it back: the stage weights are a list there.
        plan[PLANS_KEY] = json.loads(json.dumps({k: v for k, v in asdict(settings).items() if v is not None}))
        return plan

    def _frame_size(self) -> np.ndarray:
        """Height and width that nine of ten frames do not exceed once their borders are cropped.

        The median would tile all frames of a data set half of whose frames are collimated.
        """
        shapes = np.asarray(self.dataset_fingerprint["shapes_after_crop"])[:, 1:]
        return np.percentile(shapes, 90, axis=0)

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Add the configuration that compares: all as planned, but nnU-Net's own network."""
        patch = plans["configurations"][CONFIGURATION]["patch_size"]
        stock = stages_that_divide(self._stock_architecture, patch)
        if stock["arch_kwargs"]["n_stages"] >= FEWEST_STOCK_STAGES:
            plans["configurations"][STOCK_CONFIGURATION] = {"inherits_from": CONFIGURATION, "architecture": stock}
        else:
            print(f"No configuration {STOCK_CONFIGURATION}: nnU-Net's own network cannot halve a patch of {patch}.")
        recursive_fix_for_json_export(plans)
        file = Path(nnUNet_preprocessed) / self.dataset_name / f"{self.plans_identifier}.json"
        if file.is_file() and self.options.overwrite:
            self._drop_stale(file, plans)
        elif file.is_file():
            self._check_earlier_plans(file, plans)
        super().save_plans(plans)

    def _drop_stale(self, file: Path, plans: dict[str, Any]) -> None:
        """Keep what the user added to plans that are replaced, as nnU-Net does, but nothing of ours, or unreadable."""
        try:
            earlier = json.loads(file.read_text(encoding="utf-8"))
            configurations = earlier["configurations"]
        except (ValueError, TypeError, KeyError):
            file.unlink()
            return
        if STOCK_CONFIGURATION in configurations.keys() - plans["configurations"].keys():
            del configurations[STOCK_CONFIGURATION]
            with written_beside(file, overwrite=True) as partial:
                partial.write_text(json.dumps(earlier), encoding="utf-8")

    def _check_earlier_plans(self, file: Path, plans: dict[str, Any]) -> None:
        """Plans made again are no change: an interrupted preprocessing goes on with the same command."""
        earlier = read_json(file, "remove it, or replace it with --force")["configurations"].get(CONFIGURATION)
        if earlier != plans["configurations"][CONFIGURATION]:
            raise InputError(f"{file} holds other plans: replace them with --force, or choose another --plans-name.")

    def _settings(self) -> TrainingSettings:
        training = dict(self.options.training)
        if "skeleton_iterations" not in training:
            training["skeleton_iterations"] = skeleton_iterations(
                [case["label"] for case in self.dataset.values()],
                self.determine_reader_writer()().read_seg,
                self.dataset_json["labels"].get("ignore"),
            )
        return TrainingSettings(**training)

    def _batch(self, architecture: dict[str, Any], patch: Sequence[int], iterations: int) -> int:
        """The paper's batch, or as many patches as the memory holds by the network's own estimate."""
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            len(self.dataset_json["channel_names"]),
            len(self.dataset_json["labels"]) - 1,
            allow_init=False,
        )
        for batch in range(PAPER_BATCH, MINIMUM_BATCH, -1):
            if training_memory_gb(network, patch, batch, iterations) <= self.options.gpu_memory_gb:
                return batch
        return MINIMUM_BATCH


def network_plan(arguments: dict[str, Any]) -> dict[str, Any]:
    """The ``architecture`` entry of plans for FGA-Net with these keyword arguments, and our defaults for the rest."""
    features = list(arguments.get("features_per_stage", RELEASED_FEATURES))
    # nnU-Net's own trainer derives from the strides how many outputs there are, and drops the last.
    strides = [[1, 1]] * (len(features) + 1)
    return {
        "network_class_name": FGANET_CLASS_NAME,
        "arch_kwargs": {**DEFAULT_NETWORK, **arguments, "features_per_stage": features, "strides": strides},
        "_kw_requires_import": [],
    }


def stages_that_divide(architecture: dict[str, Any], patch: Sequence[int]) -> dict[str, Any]:
    """nnU-Net's architecture with no more stages than halve ``patch`` without a rest.

    nnU-Net rounds its patch up to what its network divides; under our patch the network gives way.
    """
    kwargs = dict(architecture["arch_kwargs"])
    strides = np.cumprod(kwargs["strides"], axis=0)
    stages = sum(not np.any(np.mod(patch, stride)) for stride in strides)
    for name in ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage"):
        kwargs[name] = list(kwargs[name])[:stages]
    kwargs["n_conv_per_stage_decoder"] = list(kwargs["n_conv_per_stage_decoder"])[: stages - 1]
    kwargs["n_stages"] = stages
    return {**architecture, "arch_kwargs": kwargs}


def fitted_patch(frame_size: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """The paper's patch, or the frame's size rounded up to what the network computes anyway (multiples of 32)."""
    height, width = (min(PAPER_PATCH, max(64, -(-round(size) // 32) * 32)) for size in frame_size)
    return height, width


@contextmanager
def _at_least_one_worker() -> Iterator[None]:
    """Let nnU-Net plan where a training is to have no workers: it plans with as many threads, which cannot be none."""
    asked_for = os.environ.get(_WORKERS)
    try:
        if asked_for == "0":
            os.environ[_WORKERS] = "1"
        yield
    finally:
        if asked_for is not None:
            os.environ[_WORKERS] = asked_for
