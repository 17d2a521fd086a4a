"""Run a command to its end; none of its children outlives it."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO

SECONDS_TO_STOP = 10

WAITING_THREADS: Mapping[str, str] = {
    # Threads that spin for long while they wait take the cores from nnU-Net's workers ...
    "OMP_WAIT_POLICY": "PASSIVE",
    # ... those that sleep at once are woken thousands of times a training step: GNU's OpenMP, torch's on Linux,
    # spins for some tenths of a millisecond instead (docs/performance.md, "A training step").
    "GOMP_SPINCOUNT": "10000",
}
"""Environment that lets torch's threads and nnU-Net's worker processes share the cores."""


def run_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    watch: Callable[[str], str | None] | None,
    keep_open: Sequence[int] = (),
) -> int:
    """Run a command to its end and return its exit code; children that outlive it, or an interrupt, are stopped.

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
            # Its lines end when nobody can write any more: neither it nor a child of it.
            Thread(target=_end_children_with, args=(process,), daemon=True).start()
            with log.open("a", encoding="utf-8") as file:
                _follow(process.stdout, file, watch)
        return process.wait()
    finally:
        _stop(process)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a closed terminal, stop the running command as Ctrl-C does: it would go on alone.

    A signal that is ignored stays so: that is how ``nohup`` works.
    """
    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {kind: handler for kind in kinds if (handler := signal.getsignal(kind)) != signal.SIG_IGN}
    for kind in before:
        signal.signal(kind, signal.default_int_handler)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _follow(lines: IO[str], log: IO[str], watch: Callable[[str], str | None]) -> None:
    for line in lines:
        log.write(line)
        log.flush()
        shown = watch(line.rstrip("\n"))
        if shown:
            print(f"      {shown}", flush=True)


def _end_children_with(process: subprocess.Popen[str]) -> None:
    """Wait for the process, then end the children that it left: those of a killed one would run for ever."""
    process.wait()
    _send(process, signal.SIGKILL)


def _stop(process: subprocess.Popen[str]) -> None:
    """End the process, gently first, and whatever is left of its children."""
    try:
        if process.poll() is None:
            _send(process, signal.SIGTERM)
            process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _send(process, signal.SIGKILL)
    process.wait()


def _send(process: subprocess.Popen[str], kind: signal.Signals) -> None:
    """Send a signal to the process and its children, where any still live."""
    with suppress(ProcessLookupError, PermissionError):  # the latter is macOS's answer where all have just ended
        os.killpg(process.pid, kind)
