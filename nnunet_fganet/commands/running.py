"""Run a command to its end; an interrupt stops it and all its children."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

SECONDS_TO_STOP = 10


def run_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    watch: Callable[[str], str | None] | None,
    keep_open: Sequence[int] = (),
) -> int:
    """Run a command to its end and return its exit code; an interrupt stops it and all its children.

    Parameters
    ----------
    command
        Program and arguments.
    environment
        Its whole environment.
    log
        File that its lines are added to, where ``watch`` is given.
    watch
        Called with every line that the command writes; what it returns is shown on the terminal,
        everything goes to the log file. ``None``: the command writes to the terminal itself.
    keep_open
        Open files that the command shares.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if watch else None,
        stderr=subprocess.STDOUT if watch else None,
        text=True,
        errors="replace",
        pass_fds=keep_open,
        start_new_session=True,  # so that its workers can be stopped with it
    )
    try:
        if watch and process.stdout:
            with log.open("a", encoding="utf-8") as file:
                _follow(process.stdout, file, watch)
        return process.wait()
    finally:
        _stop(process)


def _follow(lines: IO[str], log: IO[str], watch: Callable[[str], str | None]) -> None:
    for line in lines:
        log.write(line)
        log.flush()
        shown = watch(line.rstrip("\n"))
        if shown:
            print(f"      {shown}", flush=True)


def _stop(process: subprocess.Popen[str]) -> None:
    """End the process and its children, gently first; nothing to do where it ended by itself."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, kind)
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            continue
