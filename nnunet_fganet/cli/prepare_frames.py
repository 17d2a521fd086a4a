"""``fganet prepare-frames``: new frames, cleaned as the converter cleans training frames."""

import argparse
from pathlib import Path

from nnunet_fganet.cli.arguments import positive_integer
from nnunet_fganet.frames.preparation import prepare_frames
from nnunet_fganet.frames.workers import default_workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", metavar="IN", type=Path, help="image file, or folder of image files")
    parser.add_argument("target", metavar="OUT", type=Path, help="folder to write <name>_0000.png to")
    parser.add_argument("--workers", type=positive_integer, default=default_workers(), metavar="N", help="threads")
    parser.add_argument("--force", action="store_true", help="replace OUT, an earlier result")


def run(arguments: argparse.Namespace) -> None:
    """Prepare the frames and print what was removed."""
    print(prepare_frames(arguments.source, arguments.target, arguments.workers, arguments.force))
    print(f"Prepared frames: {arguments.target}")
