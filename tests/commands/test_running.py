"""Commands with real children: what an interrupt stops."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_fganet.commands.running import SECONDS_TO_STOP, run_command

DRIVER = """
import signal, sys
from pathlib import Path
from nnunet_fganet.commands.running import run_command, terminated_like_interrupted
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "nohup" else signal.SIG_DFL)
grandchild = f"import os, pathlib, time; pathlib.Path({sys.argv[1]!r}).write_text(str(os.getpid())); time.sleep(60)"
child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
with terminated_like_interrupted():
    run_command([sys.executable, "-c", child], {}, Path(sys.argv[1] + ".log"), lambda line: None)
"""

# A training whose main process is killed (for memory) while its workers, which hold its pipe and its files, live on.
KILLED = """
import os, signal, sys
from pathlib import Path
worker = os.fork()
if worker == 0:
    signal.pause()
print("Epoch 1", flush=True)
Path(sys.argv[1]).write_text(str(worker))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("kind", "shell"),
    [(signal.SIGINT, ""), (signal.SIGTERM, ""), (signal.SIGHUP, ""), (signal.SIGTERM, "nohup")],
)
def test_an_interrupt_ends_the_command_and_its_workers(kind: signal.Signals, shell: str, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(pid_file), shell], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
    if shell == "nohup":
        driver.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert driver.poll() is None
        assert is_running(int(pid_file.read_text()))
    driver.send_signal(kind)
    _, errors = driver.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    wait_until(lambda: not is_running(int(pid_file.read_text())))


@pytest.mark.parametrize("watched", [True, False])
def test_workers_of_a_killed_command_end_with_it(watched: bool, tmp_path: Path) -> None:
    pid_file, log, shown = tmp_path / "pid", tmp_path / "log", []
    command = [sys.executable, "-c", KILLED, str(pid_file)]
    started = time.monotonic()
    code = run_command(command, {}, log, shown.append if watched else None)
    assert time.monotonic() - started < SECONDS_TO_STOP
    assert code == -signal.SIGKILL
    assert shown == (["Epoch 1"] if watched else [])
    wait_until(lambda: not is_running(int(pid_file.read_text())))


def test_an_error_of_the_watcher_stops_the_command(tmp_path: Path) -> None:
    def watch(line: str) -> None:
        raise ValueError(line)

    command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    with pytest.raises(ValueError, match=r"\d+") as raised:
        run_command(command, {}, tmp_path / "log", watch)
    assert not is_running(int(str(raised.value)))


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
