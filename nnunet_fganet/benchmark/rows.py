"""Rows of the benchmark's table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_fganet.benchmark.measuring import Measurement


@dataclass(frozen=True)
class Row:
    """One way to compute, measured.

    Attributes
    ----------
    name
        ``reference``, ``float32``, ...
    device, dtype, backend
        Where, in what, and how the deformable convolutions compute.
    size
        Rows and columns of the frames.
    milliseconds, fastest, slowest, runs
        Median, extremes and number of the timed calls.
    ratio
        Median of the reference over this one's, both of this run.
    share_of_limit
        Share of the arithmetic throughput that this machine's best convolutions reach in ``dtype``.
    peak_mb
        Memory of weights and features at the most, MB; None where the system does not tell.
    agreement
        Of masks: pixels that both call wire over those that either does. Of gradients: the smallest
        cosine similarity of a layer. Of losses: 1 minus the relative difference.
    """

    name: str
    device: str
    dtype: str
    backend: str
    size: int
    milliseconds: float
    fastest: float
    slowest: float
    runs: int
    ratio: float
    share_of_limit: float | None
    peak_mb: float | None
    agreement: float


def make_row(
    name: str,
    device: str,
    dtype: str,
    backend: str,
    size: int,
    measured: Measurement,
    reference: Measurement,
    limit_milliseconds: float | None,
    agreement: float,
) -> Row:
    """Round a measurement to what it can carry."""
    milliseconds = measured.milliseconds
    return Row(
        name,
        device,
        dtype,
        backend,
        size,
        milliseconds=round(milliseconds, 2),
        fastest=round(measured.times[0], 2),
        slowest=round(measured.times[-1], 2),
        runs=len(measured.times),
        ratio=round(reference.milliseconds / milliseconds, 3),
        share_of_limit=None if limit_milliseconds is None else round(limit_milliseconds / milliseconds, 3),
        peak_mb=None if measured.peak_mb is None else round(measured.peak_mb, 1),
        agreement=round(agreement, 6),
    )


HEADER = (
    f"{'':22}{'size':>6}{'ms':>10}{'(fastest to slowest)':>24}{'ratio':>8}{'of limit':>10}{'MB':>8}{'agreement':>12}"
)


def table_line(row: Row) -> str:
    """A row as a line under :data:`HEADER`."""
    spread = f"({row.fastest:.1f} to {row.slowest:.1f})"
    share = "" if row.share_of_limit is None else f"{row.share_of_limit:.0%}"
    memory = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
    return (
        f"{row.name:22}{row.size:>6}{row.milliseconds:>10.1f}{spread:>24}"
        f"{row.ratio:>7.2f}x{share:>10}{memory:>8}{row.agreement:>12.5f}"
    )


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a list of objects."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
