"""Fixtures of the converter's tests."""

from pathlib import Path

import pytest
from converter_sources import make_released


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_released(tmp_path / "source")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture(autouse=True)
def _no_nnunet_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
