"""``fganet report``: a page with all that a comparison or an ablation found, to look at and to send around."""

import argparse
from pathlib import Path

from nnunet_fganet.cli.arguments import positive_integer
from nnunet_fganet.errors import InputError
from nnunet_fganet.files import check_new_file, written_beside
from nnunet_fganet.report.document import read_run
from nnunet_fganet.report.maps import wanted_maps
from nnunet_fganet.report.page import render_page

REPORT_FILE = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; ``docs/report.md`` explains them."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="--out of fganet compare or fganet ablate")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help=f"page to write (default: RUN/{REPORT_FILE})")
    parser.add_argument(
        "--frames",
        type=positive_integer,
        default=6,
        metavar="N",
        help="pictures of the N worst and the N best frames of each network (default: 6)",
    )
    parser.add_argument("--no-maps", action="store_true", help="leave the Grad-CAM++ maps out, which take longest")
    parser.add_argument("--force", action="store_true", help="replace the page where it exists")


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    document = read_run(arguments.run_folder)
    out = arguments.out or arguments.run_folder / REPORT_FILE
    _check_out(out, arguments.force)
    maps = [] if arguments.no_maps else wanted_maps(document)
    page = render_page(document, arguments.frames, maps)
    with written_beside(out, overwrite=arguments.force) as partial:
        partial.write_text(page, encoding="utf-8")
    print(f"Report: {out} ({out.stat().st_size / 1e6:.1f} MB): open it in a browser.")


def _check_out(out: Path, force: bool) -> None:
    """Find out what cannot be written before the work is done, not after."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out} is no name of a page: end it with .html.")
    check_new_file(out, force)
