"""Which number format training and prediction compute in."""

import os
import platform

import torch

from nnunet_fganet.compiled.matrix_units import cpu_capabilities, has_matrix_units

PRECISIONS = ("auto", "float32", "bfloat16")
ENVIRONMENT_VARIABLE = "FGANET_PRECISION"
MIXED = "float16 (mixed)"

# Names that torch gives to bfloat16 matrix units: x86 (AMX, AVX-512) and Arm.
_MATRIX_UNITS = ("amx_bf16", "bf16", "sve_bf16")
_BFLOAT16_UNITS = (*_MATRIX_UNITS, "avx512_bf16")


def cpu_has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware, asked from the CPU.

    Without such units torch still computes in bfloat16, many times slower than in float32.
    """
    capabilities = cpu_capabilities()
    return any(capabilities.get(name, False) for name in _BFLOAT16_UNITS)


def image_dtype(dtype: torch.dtype, device: str, fine: bool) -> torch.dtype:
    """Dtype of all but the deformable convolutions in a prepared network that computes in ``dtype``.

    On CPUs bfloat16 is not exact enough for stages at the finest resolutions (``fine``): what is rounded there
    changes most pixels of the masks. There it is float16, whose convolutions matrix units compute in 16-bit integers,
    or float32 where there are no such units. Nor is it quick enough for other stages where the CPU says that it has no
    matrix units for bfloat16: dot products double the arithmetic, and Winograd's convolution in float32 saves more of
    it (docs/performance.md).
    """
    if dtype != torch.bfloat16 or device != "cpu":
        return dtype
    if not cpu_may_have_matrix_units():
        return torch.float32
    if not fine:
        return torch.bfloat16
    return torch.float16 if has_matrix_units() else torch.float32


def cpu_may_have_matrix_units() -> bool:
    """Whether this CPU has matrix units for bfloat16, or cannot be asked."""
    capabilities = cpu_capabilities()
    return not capabilities or any(capabilities.get(name, False) for name in _MATRIX_UNITS)


def describe_cpu() -> str:
    """Name, cores and bfloat16 units of the CPU, in one line."""
    name = cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    units = "bfloat16 units" if cpu_has_bfloat16_units() else "no bfloat16 units: computes in float32"
    return f"{name}, {os.cpu_count()} cores, {units}"


def compute_dtypes(setting: str = "auto") -> dict[str, torch.dtype]:
    """Dtype to compute in by device type; a device that is not listed follows the caller's autocast.

    Parameters
    ----------
    setting
        One of :data:`PRECISIONS`, from the plans; the environment variable ``FGANET_PRECISION``
        overrides it. ``auto``: bfloat16 on a CPU that has the units, float32 on other CPUs, and
        nnU-Net's own mixed precision on GPUs.

    Raises
    ------
    ValueError
        The setting, or the variable, is none of :data:`PRECISIONS`.
    """
    setting = os.environ.get(ENVIRONMENT_VARIABLE) or setting
    if setting not in PRECISIONS:
        raise ValueError(
            f"precision {setting!r} is not known; set {ENVIRONMENT_VARIABLE} (or precision in the plans) "
            f"to one of {', '.join(PRECISIONS)}"
        )
    if setting == "auto":
        return {"cpu": torch.bfloat16 if cpu_has_bfloat16_units() else torch.float32}
    dtype = torch.float32 if setting == "float32" else torch.bfloat16
    return {"cpu": dtype, "cuda": dtype}


def training_precision(setting: str, device: str) -> str:
    """Name of the number format that trainings compute in here.

    Parameters
    ----------
    setting
        As :func:`compute_dtypes` takes it.
    device
        ``cpu`` or ``cuda``.

    Returns
    -------
    str
        ``float32``, ``bfloat16``, or :data:`MIXED`: what nnU-Net's autocast computes in on GPUs.

    Raises
    ------
    ValueError
        As of :func:`compute_dtypes`.
    """
    dtypes = compute_dtypes(setting)
    return str(dtypes[device]).removeprefix("torch.") if device in dtypes else MIXED
