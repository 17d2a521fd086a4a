"""Options that ``fganet compare`` and ``fganet ablate`` share."""

import argparse
from pathlib import Path

import torch

from nnunet_fganet.cli.arguments import natural_number, positive_integer
from nnunet_fganet.comparison.comparison import ComparisonOptions
from nnunet_fganet.evaluation.record import GROUPINGS
from nnunet_fganet.frames.workers import default_workers
from nnunet_fganet.planning.planner import PLANS_NAME


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them; ``docs/comparison.md`` explains them."""
    parser.add_argument("dataset", metavar="DATASET", type=positive_integer, help="number of the data set, such as 501")
    parser.add_argument("--out", type=Path, metavar="RUN", required=True, help="folder for all that is made")
    parser.add_argument(
        "--folds", type=natural_number, nargs="+", default=[0], metavar="N", help="folds to train (default: 0)"
    )
    parser.add_argument(
        "--seeds", type=natural_number, nargs="+", default=[0], metavar="N", help="seeds to train with (default: 0)"
    )
    parser.add_argument("--epochs", type=positive_integer, metavar="N", help="of each training (default: the plans')")
    parser.add_argument(
        "--iterations", type=positive_integer, metavar="N", help="training batches an epoch (default: the plans')"
    )
    parser.add_argument("--plans", default=PLANS_NAME, metavar="NAME", help=f"of fganet plan (default: {PLANS_NAME})")
    parser.add_argument(
        "--by", choices=GROUPINGS, default="sequence", help="what the intervals resample (default: sequence)"
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="where to compute (default: cuda where there is a GPU)",
    )
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=default_workers(),
        metavar="N",
        help="processes that load, augment and write frames (default: one a core, 8 at most)",
    )
    parser.add_argument("--force", action="store_true", help="remove trainings that RUN holds under other terms")


def options_of(arguments: argparse.Namespace) -> ComparisonOptions:
    """What the user chose; numbers that are given twice count once."""
    chosen = {name: getattr(arguments, name) for name in ComparisonOptions.__dataclass_fields__}
    for name in ("folds", "seeds"):
        chosen[name] = tuple(dict.fromkeys(chosen[name]))
    return ComparisonOptions(**chosen)
