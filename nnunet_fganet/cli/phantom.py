"""``fganet phantom``: write phantom fluoroscopy sequences with known guidewires."""

import argparse
from pathlib import Path

from dataset_conversion.splits import FOLDS
from nnunet_fganet.cli.arguments import positive_integer
from nnunet_fganet.phantom import write_phantom
from nnunet_fganet.phantom.writing import is_test


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fganet phantom``."""
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to make, in the TCGSeg layout, with truth.json")
    parser.add_argument(
        "--sequences", type=positive_integer, default=80, metavar="N", help="sequences (default: 80, as in TCGSeg)"
    )
    parser.add_argument(
        "--frames", type=positive_integer, default=36, metavar="N", help="frames a sequence, at 8/s (default: 36)"
    )
    parser.add_argument(
        "--size", type=positive_integer, default=512, metavar="PX", help="rows and columns (default: 512)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same bytes (default: 0)")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="draw the wires over the frames in this folder")
    parser.add_argument("--force", action="store_true", help="replace OUT, an earlier phantom")


def run(arguments: argparse.Namespace) -> None:
    """Write the data set and say where it is."""
    write_phantom(
        arguments.out,
        arguments.sequences,
        arguments.frames,
        arguments.size,
        arguments.seed,
        arguments.backgrounds,
        overwrite=arguments.force,
    )
    print(f"{arguments.sequences * arguments.frames} frames of {arguments.sequences} sequences in {arguments.out}")
    training = sum(not is_test(sequence) for sequence in range(arguments.sequences))
    if training < FOLDS:
        print(f"Note: only {training} sequences are for training; fganet convert needs {FOLDS}: --sequences 7 or more.")
