"""``fganet doctor``: is the installation sound, and how is each thing that is wrong mended.

Every check is a function that returns :class:`Finding` objects and prints nothing. Checks of
settings take them as arguments; only :func:`run` reads the environment of the process.
"""

import argparse
import contextlib
import importlib.metadata
import io
import os
import platform
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

from nnunet_fganet.commands.scripts import interpreter_of, script_folders
from nnunet_fganet.errors import InputError
from nnunet_fganet.nnunet_folders import why_misread
from nnunet_fganet.registration import ENVIRONMENT_VARIABLE, TRAINER_FOLDER

TRAINERS = ("nnUNetTrainerFGANet", "nnUNetTrainerFGANetPaperSchedule", "nnUNetTrainerComparator")
FOLDERS = {
    "nnUNet_raw": "converted data sets",
    "nnUNet_preprocessed": "plans and preprocessed frames",
    "nnUNet_results": "trained networks",
}
PACKAGES = ("nnunetv2", "torch", "torchvision", "dynamic-network-architectures", "batchgeneratorsv2", "setuptools")


class State(Enum):
    """How a check ended; the values are what is printed."""

    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


class Finding(NamedTuple):
    """What one check found, and the way out where something is wrong."""

    name: str
    state: State
    found: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: ``fganet doctor`` has none."""


def run(arguments: argparse.Namespace) -> None:
    """Print every finding under its heading.

    Raises
    ------
    InputError
        Something is wrong.
    """
    findings = []
    for heading, checks in sections(os.environ):
        print(f"\n{heading}")
        for finding in checks:
            findings.append(finding)
            print(_as_text(finding), flush=True)
    wrong = [finding.name for finding in findings if finding.state is State.WRONG]
    print()
    if wrong:
        raise InputError(f"{len(wrong)} of {len(findings)} checks failed ({', '.join(wrong)}): see the lines 'mend:'.")
    print(f"All {len(findings)} checks passed.")


def sections(environment: Mapping[str, str]) -> Iterator[tuple[str, Iterator[Finding]]]:
    """Headings with their checks, in the order in which they are printed."""
    yield "Versions", check_versions()
    yield "Registration with nnU-Net", check_registration(environment)
    yield "nnU-Net's folders", check_folders(environment)
    yield "Device", check_device(environment)


def check_versions() -> Iterator[Finding]:
    """Python, and the packages that decide whether anything works, against what our package asks for."""
    yield Finding("Python", State.OK, f"{platform.python_version()} ({sys.executable})")
    try:
        required = {item.name: item for item in map(Requirement, importlib.metadata.requires("nnunet_fganet") or [])}
        yield Finding("nnunet_fganet", State.OK, importlib.metadata.version("nnunet_fganet"))
    except importlib.metadata.PackageNotFoundError:
        required = {}
        yield Finding("nnunet_fganet", State.WRONG, "imported from a folder, not installed", "pip install -e .")
    for package in PACKAGES:
        yield check_version(package, required.get(package, Requirement(package)))


def check_version(package: str, required: Requirement) -> Finding:
    """Whether the installed version of one package is one that we can work with."""
    mend = f"{sys.executable} -m pip install {shlex.quote(str(required))}"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, State.WRONG, "not installed", mend)
    if not required.specifier.contains(Version(version), prereleases=True):
        return Finding(package, State.WRONG, f"{version}, but {required.specifier} is needed", mend)
    return Finding(package, State.OK, version)


def check_registration(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether nnU-Net finds our trainers here, and in any other shell."""
    yield from check_trainer_folders(environment.get(ENVIRONMENT_VARIABLE, ""))
    yield check_new_processes(environment)
    for trainer in TRAINERS:
        yield check_trainer(trainer)
    yield check_command(environment.get("PATH", ""))


def check_trainer_folders(value: str) -> Iterator[Finding]:
    """Each folder of ``nnUNet_extTrainer``; nnU-Net silently passes over one that does not exist."""
    folders = [folder for folder in value.split(os.pathsep) if folder]
    if TRAINER_FOLDER not in folders:
        extended = os.pathsep.join([*folders, TRAINER_FOLDER])
        yield Finding(
            ENVIRONMENT_VARIABLE,
            State.WRONG,
            f"does not name our folder; its value is {value!r}",
            f"export {ENVIRONMENT_VARIABLE}={shlex.quote(extended)}",
        )
    for folder in folders:
        if folder == TRAINER_FOLDER:
            yield Finding(ENVIRONMENT_VARIABLE, State.OK, f"{folder} (ours)")
        elif Path(folder).is_dir():
            yield Finding(ENVIRONMENT_VARIABLE, State.OK, f"{folder} (set by you)")
        else:
            others = os.pathsep.join(str(Path(item).expanduser()) for item in folders if item != TRAINER_FOLDER)
            reason = "'~' is not expanded by nnU-Net" if folder.startswith("~") else "no such folder"
            mend = f"make the folder, or correct it: export {ENVIRONMENT_VARIABLE}={shlex.quote(others)}"
            yield Finding(ENVIRONMENT_VARIABLE, State.WRONG, f"{folder}: {reason}", mend)


def check_new_processes(environment: Mapping[str, str]) -> Finding:
    """Whether a new Python process registers us by itself, through the installed ``nnunet_fganet.pth``."""
    clean = {name: value for name, value in environment.items() if name != ENVIRONMENT_VARIABLE}
    program = f"import os; print(os.environ.get({ENVIRONMENT_VARIABLE!r}, ''))"
    answer = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=False)
    if TRAINER_FOLDER in answer.stdout.strip().split(os.pathsep):
        return Finding("new processes", State.OK, "register by themselves (nnunet_fganet.pth)")
    return Finding(
        "new processes",
        State.WRONG,
        "do not register by themselves: nnunet_fganet.pth is not in site-packages",
        f"{sys.executable} -m pip install --force-reinstall --no-deps nnunet_fganet, from the source folder "
        "'pip install -e .'; with 'pip install --target', set "
        f"export {ENVIRONMENT_VARIABLE}={shlex.quote(TRAINER_FOLDER)} in your shell's profile",
    )


def check_trainer(name: str) -> Finding:
    """Whether nnU-Net's own search finds the trainer ``name``, and finds ours."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

            trainer = recursive_find_trainer_class_by_name(name)
    except Exception as error:  # a broken module of another trainer folder can raise anything
        return Finding(name, State.WRONG, f"not found: {_sentence(error)}", _mend_import(error))
    if not trainer.__module__.startswith("nnunet_fganet."):
        return Finding(
            name,
            State.WRONG,
            f"another class of this name comes first: {trainer.__module__}",
            "rename that class, or remove its folder from " + ENVIRONMENT_VARIABLE,
        )
    return Finding(name, State.OK, f"{trainer.__module__}")


def _mend_import(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{sys.executable} -m pip install {error.name}"
    if isinstance(error, ImportError):
        return f"{sys.executable} -m pip install --upgrade nnunet_fganet (its packages do not fit together)"
    return f"see the lines about {ENVIRONMENT_VARIABLE}; a trainer folder of yours may hold a module that fails"


def check_command(path: str) -> Finding:
    """Whether ``nnUNetv2_train`` in this shell is the one of this Python environment."""
    name = "nnUNetv2_train"
    folders = script_folders()
    folder = next((folder for folder in folders if (folder / name).is_file()), folders[0])
    activate = folder / "activate"
    mend = (
        f"source {shlex.quote(str(activate))}"
        if activate.is_file()
        else f'export PATH={shlex.quote(str(folder))}:"$PATH"'
    )
    found = shutil.which(name, path=path)
    if found is None:
        return Finding(name, State.NOTE, "not on this shell's PATH", f"{mend} (or call {folder / name})")
    interpreter = interpreter_of(Path(found))
    if Path(found).parent.resolve() in folders or interpreter == Path(sys.executable):
        return Finding(name, State.OK, found)
    if interpreter is None:
        return Finding(name, State.NOTE, f"{found} does not tell which Python it starts: it should be {sys.executable}")
    return Finding(name, State.WRONG, f"{found} belongs to another environment, of {interpreter}", mend)


def check_folders(environment: Mapping[str, str]) -> Iterator[Finding]:
    """nnU-Net's three folders, each for itself and against each other."""
    for variable in FOLDERS:
        yield check_folder(variable, environment.get(variable))
    values = [os.path.realpath(environment[variable]) for variable in FOLDERS if environment.get(variable)]
    if len(set(values)) < len(values):
        mend = "\n".join(_wrong_folder(variable, "").mend for variable in FOLDERS)
        yield Finding("folders", State.WRONG, "two of the three variables name the same folder", mend)


def check_folder(variable: str, value: str | None) -> Finding:
    """One of nnU-Net's folders: set, written out, absolute, existing, writable.

    Parameters
    ----------
    variable
        ``nnUNet_raw``, ``nnUNet_preprocessed`` or ``nnUNet_results``.
    value
        What the environment says; ``None`` where the variable is not set.
    """
    if not value:
        return _wrong_folder(variable, f"not set (it is for {FOLDERS[variable]})")
    meant = os.path.expanduser(os.path.expandvars(value.strip().strip("'\"")))  # noqa: PTH111 - of a text
    if reason := why_misread(value):
        return _wrong_folder(variable, reason, meant)
    if not Path(value).exists():
        return _wrong_folder(variable, f"{value} does not exist", meant)
    if not Path(value).is_dir():
        return _wrong_folder(variable, f"{value} is a file, not a folder")
    if not os.access(value, os.W_OK | os.X_OK):
        return Finding(variable, State.WRONG, f"{value} cannot be written to", f"chmod u+rwx {shlex.quote(value)}")
    return Finding(variable, State.OK, f"{value} ({_free_space(value)} free)")


def _wrong_folder(variable: str, found: str, meant: str | None = None) -> Finding:
    """Build the finding whose mend makes the folder that was meant (or a usual one) and sets the variable."""
    usual = f'"$HOME/nnunet/{variable.removeprefix("nnUNet_")}"'
    folder = usual if meant is None else shlex.quote(str(Path(meant).absolute()))
    return Finding(variable, State.WRONG, found, f"mkdir -p {folder} && export {variable}={folder}")


def _free_space(folder: str) -> str:
    return f"{shutil.disk_usage(folder).free / 1e9:.0f} GB"


def check_device(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Report what training and prediction run on, and whether torch and torchvision work together."""
    try:
        yield check_deformable_convolution()
    except Exception as error:  # a CUDA library that is missing raises OSError, a wrong pair RuntimeError
        mend = f"{sys.executable} -m pip install --force-reinstall torch torchvision"
        yield Finding("torch", State.WRONG, f"does not work: {_sentence(error)}", mend)
        return
    from nnunet_fganet.precision import describe_cpu

    yield from check_gpus(environment)
    yield Finding("CPU", State.OK, describe_cpu())
    yield check_precision(environment.get("FGANET_PRECISION"))


def check_gpus(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Name each GPU that torch can use; say so where there is none, and where a driver does not fit."""
    import torch

    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        yield Finding(f"GPU {index}", State.OK, f"{gpu.name}, {memory}, CUDA {torch.version.cuda}")
    if torch.cuda.device_count():
        yield check_kernels()
        return
    if shutil.which("nvidia-smi", path=environment.get("PATH", "")):
        mend = "run nvidia-smi; install a driver for CUDA " + str(torch.version.cuda or "and a CUDA build of torch")
        yield Finding("GPU", State.WRONG, "a driver is installed, but torch cannot use it", mend)
    else:
        yield Finding("GPU", State.NOTE, "none: give every nnU-Net command '-device cpu'")


def check_kernels() -> Finding:
    """Whether our kernels for GPUs can be compiled; torch's own take several times as long."""
    from nnunet_fganet.gpu.availability import what_kernels_need

    lacking = what_kernels_need()
    if lacking is None:
        return Finding("GPU kernels", State.OK, "Triton compiles them")
    return Finding("GPU kernels", State.NOTE, f"slower ones of torch and torchvision: ours need {lacking}")


def check_precision(value: str | None) -> Finding:
    """Check the variable that chooses the arithmetic of training and prediction."""
    from nnunet_fganet.precision import ENVIRONMENT_VARIABLE as VARIABLE
    from nnunet_fganet.precision import PRECISIONS

    if not value or value in PRECISIONS:
        return Finding(VARIABLE, State.OK, value or "not set: the plans decide")
    mend = f"unset {VARIABLE} (or export it as one of {', '.join(PRECISIONS)})"
    return Finding(VARIABLE, State.WRONG, f"{value!r} is not known", mend)


def check_deformable_convolution() -> Finding:
    """Run torchvision's compiled deformable convolution once; it is missing when the pair does not fit."""
    import torch
    from torchvision.ops import deform_conv2d

    image, kernel, offsets = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), torch.zeros(1, 18, 1, 1)
    total = deform_conv2d(image, offsets, kernel).item()
    if total != 9:
        raise RuntimeError(f"deform_conv2d sums nine ones to {total}")
    return Finding("deformable convolution", State.OK, "torch and torchvision fit together")


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _as_text(finding: Finding) -> str:
    lines = [f"  {finding.state.value:<6}{finding.name}: {finding.found}"]
    lines += [f"        mend: {line}" for line in finding.mend.splitlines()]
    return "\n".join(lines)
