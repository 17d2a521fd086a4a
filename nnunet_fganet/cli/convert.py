"""``fganet convert``: a folder of frames and masks becomes an nnU-Net data set."""

import argparse
from pathlib import Path

from dataset_conversion.conversion import ConversionOptions, convert
from dataset_conversion.writing import LABELS
from nnunet_fganet.cli.arguments import positive_integer
from nnunet_fganet.frames.workers import default_workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command; ``docs/data.md`` explains them."""
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of frames and masks")
    parser.add_argument("--out", type=Path, metavar="DIR", help="make the data set here instead of in $nnUNet_raw")
    parser.add_argument("--id", dest="dataset_id", type=positive_integer, default=501, help="data set id, 1 to 999")
    parser.add_argument("--name", default="TCGSeg", help="data set name")
    parser.add_argument(
        "--labels", choices=sorted(LABELS, reverse=True), default="region", help="one sigmoid, or softmax over two"
    )
    parser.add_argument("--sequence-pattern", metavar="REGEX", help="finds the sequence in a frame's file name")
    parser.add_argument("--groups", type=Path, metavar="CSV", help="patients: columns image,group")
    parser.add_argument("--manifest", type=Path, metavar="CSV", help="columns image,mask,sequence,patient,split")
    parser.add_argument("--threshold", type=positive_integer, metavar="N", help="mask values of N and more are wire")
    parser.add_argument(
        "--line-width", type=positive_integer, default=3, metavar="PX", help="stroke of Labelme lines (default 3)"
    )
    parser.add_argument("--workers", type=positive_integer, default=default_workers(), metavar="N", help="threads")
    parser.add_argument("--force", action="store_true", help="replace an existing data set of this id and name")


def run(arguments: argparse.Namespace) -> None:
    """Convert, and print what was done."""
    options = {key: value for key, value in vars(arguments).items() if key != "command"}
    conversion = convert(ConversionOptions(**options))
    print("\n".join(conversion.report))
    print(f"Data set: {conversion.folder}")
