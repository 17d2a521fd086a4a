"""Commands with real children: what an interrupt stops."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

DRIVER = """
import signal, sys
from pathlib import Path
from nnunet_fganet.commands.running import run_command
signal.signal(signal.SIGTERM, signal.default_int_handler)
grandchild = f"import os, pathlib, time; pathlib.Path({sys.argv[1]!r}).write_text(str(os.getpid())); time.sleep(60)"
child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
run_command([sys.executable, "-c", child], {}, Path(sys.argv[1] + ".log"), lambda line: None)
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_command_and_its_workers(kind: signal.Signals, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(pid_file)], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
    driver.send_signal(kind)
    _, errors = driver.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    wait_until(lambda: not is_running(int(pid_file.read_text())))


def is_running(pid: int) -> bool:
    """Whether the process still works; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
