"""What the command line does with errors that are nobody's input."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_fganet.cli.main import main
from nnunet_fganet.errors import describe_os_error


def test_output_that_nobody_reads_any_more_ends_the_command_quietly() -> None:
    command = [sys.executable, "-m", "nnunet_fganet.cli.main", "doctor"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error."),
        (OSError(errno.EACCES, "Permission denied", "/a/b.png"), "/a/b.png: Permission denied."),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "/a"),
            "the disk is full (/a): free some space, then run it again.",
        ),
        (OSError(errno.ENOSPC, "x"), "the disk is full (while writing): free some space, then run it again."),
        (OSError("libcuda.so: cannot open\nshared object file"), "libcuda.so: cannot open shared object file."),
        (OSError(), "OSError."),
    ],
)
def test_errors_of_the_system_are_one_sentence(error: OSError, sentence: str) -> None:
    assert describe_os_error(error) == sentence


PHANTOM = """
import resource, sys
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from nnunet_fganet.cli.main import main
sys.exit(main(["phantom", sys.argv[1], "--sequences", "1", "--frames", "30", "--size", "64"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_an_error_that_names_no_file_is_one_sentence(tmp_path: Path) -> None:
    """Text that cannot be written to its end raises an OSError without a file name."""
    out = tmp_path / "phantom"
    assert main(["phantom", str(out), "--sequences", "1", "--frames", "30", "--size", "64"]) == 0
    largest = max(path.stat().st_size for path in out.rglob("*.png"))
    limit = (out / "truth.json").stat().st_size - 1
    assert limit > largest
    command = [sys.executable, "-c", PHANTOM, str(tmp_path / "other"), str(limit)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1] == "fganet: File too large."
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("arguments", [["report", "caf\udce9"], ["compare", "501", "--out", "caf\udce9"]])
def test_names_that_are_no_text_are_refused_before_the_work(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What Python makes of bytes that are no UTF-8."""
    assert main(arguments) == 2
    said = "fganet: 'caf\\udce9' is no text in this system's encoding: rename it, or name another.\n"
    assert capsys.readouterr().err == said


def test_characters_that_a_terminal_lacks_end_no_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nnunet_fganet.cli.main", "report", str(tmp_path / "m\u2193")]
    answer = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert answer.returncode == 2
    assert b"m\\u2193" in answer.stderr
    assert b"Traceback" not in answer.stderr
