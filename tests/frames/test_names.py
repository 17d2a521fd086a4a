"""Frames of a sequence are numbered by the end of their file names."""

import pytest

from nnunet_fganet.frames.names import split_at_last_number


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("seq03_012", ("seq03", 12)),
        ("s2_proj0_IM0_7", ("s2_proj0_IM0", 7)),
        ("run 4 - 10b", ("run 4", 10)),
        ("0007", ("", 7)),
        ("still", ("still", 0)),
    ],
)
def test_split_at_last_number(stem: str, expected: tuple[str, int]) -> None:
    assert split_at_last_number(stem) == expected
