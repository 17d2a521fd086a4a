"""The Makefile's own checks, run by make on small stand-ins for Python."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


def write_python(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("version", "how", "code"),
    [("3.12", "option", 2), ("3.12", "environment", 2), ("3.11", "option", 0), ("3.12", "", 0)],
)
def test_a_python_that_is_named_has_to_be_that_of_the_environment(
    version: str, how: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_python(tmp_path / ".venv/bin/python", "3.11")
    write_python(tmp_path / "named", version)
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    if how == "environment":
        monkeypatch.setenv("PYTHON", str(tmp_path / "named"))
    options = [f"PYTHON={tmp_path / 'named'}"] if how == "option" else []
    command = ["make", "--file", str(MAKEFILE), "--directory", str(tmp_path), *options, "same-python"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == code, answer.stderr
    assert ("has Python 3.11" in answer.stderr and "make clean-venv" in answer.stderr) == (code != 0)
