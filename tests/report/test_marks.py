"""Breaks, missed stretches and false wire, on wires drawn by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_fganet.report.marks import BREAK, FALSE_WIRE, MISS, find_marks

SHAPE = (30, 60)


def straight(columns: slice = slice(5, 55)) -> np.ndarray:
    """A wire three pixels wide."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[14:17, columns] = 1
    return mask


def kinds(label: np.ndarray, found: np.ndarray) -> list[str]:
    return [mark.kind for mark in find_marks(label, found)]


def test_a_gap_between_two_found_stretches_is_a_break_and_is_circled():
    found = straight()
    found[:, 25:32] = 0
    [mark] = find_marks(straight(), found)
    assert mark.kind == BREAK
    assert (mark.row, mark.column, mark.radius) == (15, 28, 3)


def test_a_gap_of_one_pixel_is_a_break():
    found = straight()
    found[:, 25] = 0
    assert kinds(straight(), found) == [BREAK]


def test_a_detour_beside_the_centreline_is_no_break():
    found = straight()
    found[:, 25:32] = 0
    found[12:14, 23:34] = 1
    assert kinds(straight(), found) == []


def test_a_detour_far_from_the_centreline_does_not_bridge_a_break():
    found = straight()
    found[:, 25:32] = 0
    found[5:15, [22, 35]] = 1
    found[5, 22:36] = 1
    assert kinds(straight(), found) == [BREAK]


def test_a_missed_end_is_a_miss_and_a_blunt_end_is_none():
    assert kinds(straight(), straight(slice(5, 45))) == [MISS]
    assert kinds(straight(), straight(slice(8, 53))) == []


def test_a_wire_that_was_not_found_is_one_miss():
    assert kinds(straight(), np.zeros(SHAPE, np.uint8)) == [MISS]


def test_a_piece_that_touches_the_label_nowhere_is_false_wire():
    found = straight()
    found[2, 10:20] = 1
    assert kinds(straight(), found) == [FALSE_WIRE]
    found[2, 10:20] = 0
    found[17, 10:20] = 1  # a wire found too wide
    assert kinds(straight(), found) == []
    found[2, 10:13] = 1  # a speck
    assert kinds(straight(), found) == []


def test_nothing_is_marked_where_there_is_nothing():
    empty = np.zeros(SHAPE, np.uint8)
    assert find_marks(empty, empty) == []


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match="shape"):
        find_marks(np.zeros((3, 4)), np.zeros((4, 3)))


@given(arrays(bool, (12, 14)))
def test_a_perfect_prediction_has_no_marks(mask):
    assert find_marks(mask, mask) == []


@given(arrays(bool, (12, 14)), arrays(bool, (12, 14)), st.integers(1, 6), st.integers(1, 6))
def test_marks_move_with_the_frame(label, found, down, right):
    padding = ((down, 6), (right, 6))
    moved = find_marks(np.pad(label, padding), np.pad(found, padding))
    at_home = find_marks(np.pad(label, 1), np.pad(found, 1))
    back = [(mark.kind, mark.row - down + 1, mark.column - right + 1, mark.radius) for mark in moved]
    assert sorted(back) == sorted((mark.kind, mark.row, mark.column, mark.radius) for mark in at_home)
