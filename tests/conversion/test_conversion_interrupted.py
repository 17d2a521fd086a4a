"""A disk that fills up and Ctrl-C leave nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from converter_sources import make_released

FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from nnunet_fganet.cli.main import main
sys.exit(main(["convert", sys.argv[1], "--out", sys.argv[2], "--workers", "2"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_write_that_fails(source: Path, out: Path) -> None:
    result = subprocess.run([sys.executable, "-c", FULL_DISK, str(source), str(out)], capture_output=True, text=True)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert str(out) in result.stderr.splitlines()[-1]
    assert list(out.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_names_the_file() -> None:
    import errno

    import numpy as np

    from nnunet_fganet.frames.writing import write_png

    with pytest.raises(OSError, match="/dev/full") as raised:
        write_png(Path("/dev/full"), np.zeros((8, 8), np.uint8))
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c(tmp_path: Path, out: Path) -> None:
    source = make_released(tmp_path / "in", train=100, frames=10)
    command = [sys.executable, "-m", "nnunet_fganet.cli.main", "convert", str(source), "--out", str(out)]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob(".*/imagesTr/*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 2, (output, error)
    assert "Traceback" not in error
    assert "interrupted" in error
    assert list(out.iterdir()) == []
