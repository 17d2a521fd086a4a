"""``fganet compare``: FGA-Net against the comparators, trained on equal terms (the paper's Table 1)."""

import argparse

from nnunet_fganet.cli.comparison_options import add_comparison_arguments, options_of
from nnunet_fganet.commands.running import terminated_like_interrupted
from nnunet_fganet.comparators.registry import COMPARATORS
from nnunet_fganet.comparison.comparison import run_comparison
from nnunet_fganet.comparison.entries import BOTH_LOSSES, compared_entries
from nnunet_fganet.comparison.paper import TABLE_1
from nnunet_fganet.training.settings import COMPARATOR_LOSSES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--networks", nargs="+", default=list(COMPARATORS), metavar="NAME", help=f"some of {', '.join(COMPARATORS)}"
    )
    parser.add_argument(
        "--losses",
        choices=(*COMPARATOR_LOSSES, BOTH_LOSSES),
        default="nnunet",
        help="what the comparators are trained with (default: nnunet)",
    )
    add_comparison_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train what is not trained yet, and print the table."""
    with terminated_like_interrupted():
        run_comparison(
            "compare", compared_entries(arguments.networks, arguments.losses), options_of(arguments), TABLE_1
        )
