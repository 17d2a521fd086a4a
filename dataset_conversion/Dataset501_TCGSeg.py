"""``python -m dataset_conversion.Dataset501_TCGSeg SRC``: the same command as ``fganet convert SRC``."""

# ruff: noqa: N999 (nnU-Net names its converters after their data sets)

import sys
from collections.abc import Sequence

from nnunet_fganet.cli import main as command_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fganet convert`` with these arguments; returns its exit code."""
    return command_line.main(["convert", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
