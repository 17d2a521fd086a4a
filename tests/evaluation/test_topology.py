"""Betti numbers against persistent homology (gudhi), the Euler number (scikit-image), and by hand."""

import gudhi
import numpy as np
import pytest
from hypothesis import given
from skimage.measure import euler_number
from wires import EMPTY, drawn, horizontal_wire, masks, smooth_masks

from nnunet_fganet.evaluation.topology import betti_numbers, is_one_piece


def betti_numbers_of_cubes(mask: np.ndarray) -> tuple[int, ...]:
    """Betti numbers of the union of the mask's pixels as closed squares, which touch at corners too."""
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=np.where(mask, 0.0, 1.0))
    complex_.compute_persistence()
    return tuple(complex_.persistent_betti_numbers(0.0, 0.5)[:2])


@given(masks | smooth_masks)
def test_betti_numbers_are_those_of_the_cubical_complex(mask: np.ndarray) -> None:
    assert betti_numbers(mask) == betti_numbers_of_cubes(mask)


@given(masks | smooth_masks)
def test_pieces_minus_holes_is_the_euler_number(mask: np.ndarray) -> None:
    numbers = betti_numbers(mask)
    assert numbers.pieces - numbers.holes == euler_number(mask, connectivity=2)


@given(masks | smooth_masks)
def test_neither_flipping_nor_moving_changes_them(mask: np.ndarray) -> None:
    for moved in (mask[::-1], mask[:, ::-1], mask.T, np.pad(mask, ((3, 0), (1, 2)))):
        assert betti_numbers(moved) == betti_numbers(mask)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("...\n...", (0, 0)),
        ("#..\n.#.\n..#", (1, 0)),  # corners connect wire
        ("#.#\n#.#", (2, 0)),
        (".#.\n#.#\n.#.", (1, 1)),  # and part the background
        ("###\n#.#", (1, 0)),  # cut open by the frame's edge
        ("#####\n#.#.#\n#####", (1, 2)),
        ("###", (1, 0)),
    ],
)
def test_by_hand(mask: str, expected: tuple[int, int]) -> None:
    assert betti_numbers(drawn(mask)) == expected


def test_a_wire_is_in_one_piece_or_not() -> None:
    wire, gap, alarm = horizontal_wire(10, 5, 60), horizontal_wire(10, 5, 60), horizontal_wire(25, 5, 60)
    gap[:, 30] = 0
    assert is_one_piece(wire, wire) is True
    assert is_one_piece(wire, horizontal_wire(10, 5, 20)) is True  # how much was found is for recall to say
    assert is_one_piece(wire, gap) is False
    assert is_one_piece(wire, wire | alarm) is False
    assert is_one_piece(wire, alarm) is False
    assert is_one_piece(wire, EMPTY) is False
    for no_single_piece in (gap, EMPTY):
        assert is_one_piece(no_single_piece, wire) is None
