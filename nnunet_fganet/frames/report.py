"""Says what :func:`nnunet_fganet.frames.collimation.clean_border` removed, and which files were skipped."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

REPORT_FILE = "collimation.csv"
_OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")


def write_collimation_report(folder: Path, cases: Sequence[str], removed: Sequence[float]) -> None:
    """Write ``collimation.csv`` with columns ``case,removed`` (share of the frame's pixels, 0 to 1)."""
    with (folder / REPORT_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "removed"])
        writer.writerows((case, f"{share:.4f}") for case, share in zip(cases, removed, strict=True))


def describe_collimation(removed: Sequence[float]) -> str:
    """One sentence on how many frames had a border, and how much of them it was."""
    found = [share for share in removed if share > 0]
    if not found:
        return f"Collimation: no border found in {len(removed)} frames."
    return (
        f"Collimation: borders set to zero in {len(found)} of {len(removed)} frames, "
        f"{min(found):.1%} to {max(found):.1%} of their pixels ({REPORT_FILE} lists them)."
    )


def describe_skipped(files: Iterable[Path]) -> list[str]:
    """A sentence on ``files`` that lie beside frames and are of no kind that is read; none without such files."""
    shown = [file for file in files if not file.name.startswith(".") and file.name.lower() not in _OF_THE_SYSTEM]
    kinds = Counter(file.suffix.lower() or file.name for file in shown)
    counted = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return [f"Skipped, because they are no PNG, JPEG, TIFF or BMP files: {counted}."] if kinds else []
