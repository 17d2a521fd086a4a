"""Steps that run a command each, remember that they are done, and go on where they were interrupted."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from nnunet_fganet.commands.running import run_command
from nnunet_fganet.errors import InputError

LAST_LINES = 15


@dataclass(frozen=True)
class Step:
    """One command of the demo.

    Parameters
    ----------
    name
        One word; names the log file and the record of the step.
    title
        What the step does, for the terminal.
    command
        Program and arguments.
    result
        Folder that the command makes. It is removed before the step starts anew.
    resume
        Arguments that make the command go on with a result that is half there; a step without
        them starts anew.
    watch
        Called with every line that the command writes; what it returns is shown on the terminal,
        everything goes to the log file. ``None``: the command writes to the terminal itself.
    """

    name: str
    title: str
    command: Sequence[str]
    result: Path
    resume: Sequence[str] = ()
    watch: Callable[[str], str | None] | None = None


def run_steps(steps: Sequence[Step], folder: Path, environment: Mapping[str, str]) -> None:
    """Run those steps that are not done, in order; once one had to run, all later ones run anew.

    Parameters
    ----------
    steps
        The steps; each needs what those before it made.
    folder
        Where records (``steps/NAME.json``) and logs (``logs/NAME.log``) are kept.
    environment
        Environment of the commands.

    Raises
    ------
    InputError
        A command failed; the sentence names its log file.
    """
    anew = False
    for number, step in enumerate(steps, start=1):
        record = folder / "steps" / f"{step.name}.json"
        state = None if anew else _recorded_state(record, step)
        print(f"\n[{number}/{len(steps)}] {step.title}", flush=True)
        if state == "done" and step.result.exists():
            print("      done before (make clean starts from the beginning)")
            continue
        going_on = state == "started" and bool(step.resume)
        anew = True
        _run_step(step, record, folder / "logs" / f"{step.name}.log", going_on, environment)


def _run_step(step: Step, record: Path, log: Path, going_on: bool, environment: Mapping[str, str]) -> None:
    if not going_on:
        rmtree(step.result, ignore_errors=True)
    command = [*step.command, *(step.resume if going_on else ())]
    print(f"      {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    _write_record(record, step, "started")
    started = time.monotonic()
    code = run_command(command, environment, log, step.watch)
    if code != 0:
        raise InputError(f"step '{step.name}' of the demo failed with exit code {code}{_where_to_look(step, log)}.")
    _write_record(record, step, "done")
    print(f"      {time.monotonic() - started:.0f} s", flush=True)


def _where_to_look(step: Step, log: Path) -> str:
    if step.watch is None:
        return ", see above"
    with log.open(encoding="utf-8") as file:
        last_lines = "".join(deque(file, LAST_LINES)).rstrip()
    return f", see {log}, which ends with\n{last_lines}\n"


def _write_record(record: Path, step: Step, state: str) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"state": state, "command": list(step.command)}, indent=1) + "\n", encoding="utf-8")


def _recorded_state(record: Path, step: Step) -> str | None:
    """``started`` or ``done``; None where this very command was never run."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a record that was cut off says nothing
        return None
    return content["state"] if content.get("command") == list(step.command) else None
