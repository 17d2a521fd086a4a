import os
from pathlib import Path

import pytest
import torch

from nnunet_fganet import precision


@pytest.fixture
def cpu(monkeypatch):
    """A function that makes the CPU one with, or without, bfloat16 units."""
    monkeypatch.delenv("FGANET_PRECISION", raising=False)

    def pretend(**capabilities):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    return pretend


def test_auto_asks_the_cpu(cpu):
    cpu(amx_bf16=True, avx512_bf16=True)
    assert precision.compute_dtypes() == {"cpu": torch.bfloat16}
    cpu(avx512_f=True, amx_bf16=False)
    assert precision.compute_dtypes() == {"cpu": torch.float32}


@pytest.mark.parametrize("fine", [True, False])
@pytest.mark.parametrize("units", [True, False])
def test_coarse_images_are_in_bfloat16_where_there_are_matrix_units(cpu, monkeypatch, fine, units):
    monkeypatch.setattr(precision, "has_matrix_units", lambda: units)
    expected = (torch.float16 if units else torch.float32) if fine else torch.bfloat16
    cpu(amx_bf16=True, avx512_bf16=True)
    assert precision.image_dtype(torch.bfloat16, "cpu", fine) == expected
    cpu()  # what is not known is not decided against the caller
    assert precision.image_dtype(torch.bfloat16, "cpu", fine) == expected
    for units in ({"avx512_bf16": True, "amx_bf16": False}, {"avx2": True}):
        cpu(**units)
        assert precision.image_dtype(torch.bfloat16, "cpu", fine) == torch.float32
        assert precision.image_dtype(torch.float32, "cpu", fine) == torch.float32
        assert precision.image_dtype(torch.bfloat16, "cuda", fine) == torch.bfloat16
        assert precision.image_dtype(torch.float16, "cpu", fine) == torch.float16


def test_plans_decide_and_the_environment_overrides(cpu, monkeypatch):
    cpu(amx_bf16=True)
    assert precision.compute_dtypes("float32")["cpu"] == torch.float32
    monkeypatch.setenv("FGANET_PRECISION", "bfloat16")
    assert precision.compute_dtypes("float32") == {"cpu": torch.bfloat16, "cuda": torch.bfloat16}
    monkeypatch.setenv("FGANET_PRECISION", "auto")
    assert precision.compute_dtypes("float32") == {"cpu": torch.bfloat16}


def test_the_precision_of_trainings_has_a_name(cpu, monkeypatch):
    cpu(amx_bf16=True)
    assert precision.training_precision("auto", "cpu") == "bfloat16"
    assert precision.training_precision("auto", "cuda") == "float16 (mixed)"
    assert precision.training_precision("float32", "cuda") == "float32"
    cpu()
    assert precision.training_precision("auto", "cpu") == "float32"
    monkeypatch.setenv("FGANET_PRECISION", "bfloat16")
    assert precision.training_precision("float32", "cpu") == "bfloat16"


def test_the_cpu_is_described_in_a_line(cpu):
    cpu(cpu_name="A CPU", amx_bf16=True)
    assert precision.describe_cpu() == f"A CPU, {os.cpu_count()} cores, bfloat16 units"
    cpu()
    assert precision.describe_cpu().endswith("no bfloat16 units: computes in float32")


def test_the_library_does_not_depend_on_the_command_line():
    package = Path(precision.__file__).parent
    modules = [file for file in package.rglob("*.py") if file.relative_to(package).parts[0] != "cli"]
    assert [file for file in modules if "nnunet_fganet.cli" in file.read_text()] == []


def test_unknown_precision_names_the_variable(monkeypatch):
    monkeypatch.setenv("FGANET_PRECISION", "float8")
    with pytest.raises(ValueError, match="FGANET_PRECISION"):
        precision.compute_dtypes()
