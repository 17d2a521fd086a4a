"""Commands that pip installs are found where it puts them."""

import subprocess

import pytest

from nnunet_fganet.commands.scripts import find_script
from nnunet_fganet.errors import InputError


def test_our_own_command_is_found_and_answers() -> None:
    answer = subprocess.run([find_script("fganet"), "--version"], capture_output=True, text=True)
    assert answer.stdout.startswith("fganet ")


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="nnUNetv2_fly is not among the commands of"):
        find_script("nnUNetv2_fly")
