"""``fganet plan``: fingerprint, plan and preprocess a data set for FGA-Net."""

import argparse
from typing import Any

import torch

from nnunet_fganet.cli.arguments import positive_integer, positive_number
from nnunet_fganet.errors import InputError
from nnunet_fganet.planning.planner import PAPER_GPU_MEMORY_GB, PLANS_NAME, PlanningOptions
from nnunet_fganet.precision import PRECISIONS

# Options that go into the plans under their own names, with what they mean.
TRAINING_OPTIONS: dict[str, tuple[type, str]] = {
    "epochs": (int, "epochs of training (default 180)"),
    "iterations": (int, "training batches an epoch (default 250)"),
    "validation_iterations": (int, "validation batches an epoch (default: a fifth of --iterations)"),
    "learning_rate": (float, "initial learning rate of SGD (default 0.1)"),
    "momentum": (float, "Nesterov momentum of SGD (default 0.9)"),
    "weight_decay": (float, "weight decay (default 5e-5)"),
    "alpha": (float, "weight of clDice against Dice (default 0.25)"),
    "skeleton_iterations": (int, "iterations of the soft skeleton (default: the largest wire radius of the labels)"),
    "cross_entropy_weight": (float, "weight of the cross-entropy (default 1)"),
    "save_every": (int, "epochs between two writings of checkpoint_latest.pth (default 1)"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those of training and network are stored in the plans."""
    parser.add_argument("dataset", type=int, help="number of the data set, such as 501")
    parser.add_argument("--plans-name", default=PLANS_NAME, help=f"name for nnU-Net's -p (default {PLANS_NAME})")
    parser.add_argument(
        "--workers", type=positive_integer, default=2, help="processes that read and write frames (default 2)"
    )

    parser.add_argument("--force", action="store_true", help="replace other plans of the same name")

    data = parser.add_argument_group("patch and batch")
    data.add_argument(
        "--patch", type=int, nargs="+", metavar="PX", help="side, or height and width (default: up to 512)"
    )
    data.add_argument(
        "--batch", type=positive_integer, help="patches a step (default 8, fewer where the memory forbids it)"
    )
    data.add_argument(
        "--gpu-memory",
        type=positive_number,
        default=PAPER_GPU_MEMORY_GB,
        metavar="GB",
        help="memory to plan for (default 24)",
    )

    training = parser.add_argument_group("training")
    for name, (kind, meaning) in TRAINING_OPTIONS.items():
        training.add_argument(f"--{name.replace('_', '-')}", type=kind, help=meaning)
    training.add_argument("--stage-weights", type=float, nargs="+", help="weight of each output, the main one first")
    training.add_argument(
        "--dice", choices=("squared", "linear"), help="denominator of the soft Dice (default squared)"
    )
    training.add_argument("--precision", choices=PRECISIONS, help="number format (default auto)")

    network = parser.add_argument_group("network")
    network.add_argument(
        "--widths",
        type=positive_integer,
        nargs="+",
        dest="features_per_stage",
        help="encoder widths (default 32 64 128 256 512 512)",
    )
    network.add_argument("--norm", choices=("batch", "instance"), help="normalisation layers (default batch)")
    network.add_argument(
        "--dropout",
        type=float,
        help="after each convolution (default 0; released network: 0.2)",
    )
    network.add_argument("--no-sda", action="store_const", const=False, dest="sda", help="leave the attention out")
    network.add_argument("--no-bga", action="store_const", const=False, dest="bga", help="plain skip concatenation")
    network.add_argument(
        "--modulated", action="store_const", const=True, help="modulated deformable convolutions (the paper's text)"
    )
    network.add_argument(
        "--fusion-kernel-size",
        type=int,
        choices=(1, 3),
        help="last convolution of BGA (default 3; 1 in the paper's text)",
    )


NETWORK_OPTIONS = ("features_per_stage", "norm", "dropout", "sda", "bga", "modulated", "fusion_kernel_size")


def run(arguments: argparse.Namespace) -> None:
    """Plan and preprocess, then name the command that trains."""
    from nnunet_fganet.planning.planning import plan_and_preprocess

    plans_file = plan_and_preprocess(
        arguments.dataset, options_from(arguments), arguments.plans_name, arguments.workers
    )
    print(f"\nPlans: {plans_file}")
    device = "" if torch.cuda.is_available() else " -device cpu"
    print(f"Train: nnUNetv2_train {arguments.dataset} 2d 0 -tr nnUNetTrainerFGANet -p {arguments.plans_name}{device}")


def options_from(arguments: argparse.Namespace) -> PlanningOptions:
    """What the user asked for, checked.

    Raises
    ------
    InputError
        A value is outside its range.
    """
    training = _given(arguments, (*TRAINING_OPTIONS, "stage_weights", "dice", "precision"))
    if "iterations" in training:
        training.setdefault("validation_iterations", max(1, training["iterations"] // 5))
    if "stage_weights" in training:
        training["stage_weights"] = tuple(training["stage_weights"])
    options = PlanningOptions(
        patch=_patch(arguments.patch),
        batch=arguments.batch,
        gpu_memory_gb=arguments.gpu_memory,
        network=_given(arguments, NETWORK_OPTIONS),
        training=training,
        overwrite=arguments.force,
    )
    _check(options)
    return options


def _given(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _patch(sides: list[int] | None) -> tuple[int, int] | None:
    if sides is None:
        return None
    if len(sides) > 2 or min(sides) < 32:
        raise InputError(f"--patch {' '.join(map(str, sides))}: give one side, or height and width, of at least 32 px.")
    return sides[0], sides[-1]


def _check(options: PlanningOptions) -> None:
    """Try what the plans would hold, before an hour of preprocessing does."""
    from nnunet_fganet.network.fganet import FGANet
    from nnunet_fganet.training.settings import TrainingSettings

    try:
        settings = TrainingSettings(**options.training)
        network = FGANet(1, 1, **options.network)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{error}: change that option of fganet plan.") from error
    outputs = len(network.decoder.seg_layers)
    if settings.stage_weights is not None and len(settings.stage_weights) != outputs:
        raise InputError(
            f"--stage-weights gives {len(settings.stage_weights)} weights: this network has {outputs} outputs."
        )
