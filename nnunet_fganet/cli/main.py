"""Entry point of the command ``fganet``: finds the subcommand, turns errors into sentences."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_fganet import __version__
from nnunet_fganet.errors import InputError, describe_os_error, is_lack_of_memory
from nnunet_fganet.files import is_text

# Subcommand -> what it does, in one line. Each is a module of this package (with "_" for "-")
# that is imported only when it is called, so that ``fganet --help`` answers at once.
COMMANDS = {
    "doctor": "show what is registered with nnU-Net and how to mend what is wrong",
    "phantom": "write phantom fluoroscopy sequences with known guidewires",
    "convert": "turn a folder of frames and masks into an nnU-Net data set",
    "prepare-frames": "clean new frames as the converter cleans training frames",
    "plan": "fingerprint, plan and preprocess a data set for FGA-Net",
    "evaluate": "measure how well predicted masks agree with labels",
    "explain": "show what in a frame made a trained network call pixels wire",
    "compare": "train FGA-Net and other networks on equal terms, and compare them",
    "ablate": "train FGA-Net with and without its parts, and compare them",
    "report": "make a page that shows what a comparison found, and where predictions fail",
    "benchmark": "measure what a frame, or a training step, costs on this machine",
}
EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 1  # as Python's documentation of SIGPIPE advises


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0; 2 after bad input or an interrupt; 1 where nobody reads on)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where the terminal's encoding lacks a character
    try:
        parsed = _parse(sys.argv[1:] if arguments is None else list(arguments))
        run = vars(parsed).pop("run")
        _check_names(vars(parsed).values())
        run(parsed)
        sys.stdout.flush()
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted: run the same command again.")
    except BrokenPipeError:  # whoever read the output has seen enough of it, as in "fganet doctor | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        return EXIT_BROKEN_PIPE
    except OSError as error:
        return _fail(describe_os_error(error))
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        return _fail("there is not enough memory for this: give smaller frames, patches or batches, or fewer workers.")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; ``run`` of the result is the subcommand's."""
    parser = argparse.ArgumentParser(
        prog="fganet", description="FGA-Net for nnU-Net v2: guidewires in X-ray fluoroscopy."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, help_text in COMMANDS.items():
        description = help_text[0].upper() + help_text[1:] + "."
        subparser = subparsers.add_parser(name, help=help_text, description=description, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(f"nnunet_fganet.cli.{name.replace('-', '_')}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run, parser=subparser)
    parsed, unknown = parser.parse_known_args(arguments)
    chosen_parser = vars(parsed).pop("parser")
    if unknown:
        chosen_parser.error(f"unknown: {' '.join(unknown)}; fganet {parsed.command} --help lists the options")
    return parsed


def _check_names(values: Iterable[object]) -> None:
    """Refuse names of files that are no text: they could not be written into results, hours later."""
    for value in values:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, (str, Path)) and not is_text(str(each)):
                raise InputError(f"{str(each)!a} is no text in this system's encoding: rename it, or name another.")


def _fail(sentence: str) -> int:
    print(f"fganet: {sentence}", file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
