"""Parts of images that convolutions by matrix units compute at a time."""

from nnunet_fganet.compiled.decorators import compiled
from nnunet_fganet.compiled.matrix_units import ROWS_OF_TILE


def size_of_part(
    size: tuple[int, int], kernel: int, stride: int, most_columns: int, pixel_bytes: int, part_bytes: int
) -> tuple[int, int]:
    """Rows and columns of outputs that a part of an image has, at most.

    ``size``: rows and columns of all outputs. What a part reads, pixels of ``pixel_bytes``, fits ``part_bytes`` unless
    one row does not.
    """
    height, width = size
    columns = -(-width // -(-width // most_columns))
    line_bytes = ((max(columns, ROWS_OF_TILE) - 1) * stride + kernel) * pixel_bytes
    lines = min(height, max(1, (part_bytes // line_bytes - kernel) // stride + 1))
    return -(-height // -(-height // lines)), columns


@compiled
def place_of_part(number: int, height: int, width: int, lines: int, columns: int) -> tuple[int, int, int, int, int]:
    """Image of a part, first row and column of its outputs, and how many rows and columns it has."""
    down, across = -(-height // lines), -(-width // columns)
    top, left = number // across % down * lines, number % across * columns
    return number // (down * across), top, left, min(lines, height - top), min(columns, width - left)


@compiled
def run_start(run: int, runs: int, width: int) -> tuple[int, int]:
    """Row and column that a run of outputs begins with; the last one of a row begins inside the one before it."""
    return run // runs, max(0, min(run % runs * ROWS_OF_TILE, width - ROWS_OF_TILE))
