"""``fganet ablate``: FGA-Net with and without its parts (the paper's Table 2)."""

import argparse

from nnunet_fganet.cli.comparison_options import add_comparison_arguments, options_of
from nnunet_fganet.commands.running import terminated_like_interrupted
from nnunet_fganet.comparison.comparison import run_comparison
from nnunet_fganet.comparison.entries import ablated_entries, check_ablation
from nnunet_fganet.comparison.paper import TABLE_2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_comparison_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train what is not trained yet, and print the table."""
    with terminated_like_interrupted():
        run_comparison("ablate", ablated_entries(), options_of(arguments), TABLE_2, check_ablation)
