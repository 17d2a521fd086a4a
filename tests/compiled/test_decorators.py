"""Where compiled loops are kept, each in a process of its own."""

import os
import subprocess
import sys

import pytest

SAMPLES = """
import torch
from nnunet_fganet.network.deform_conv import deform_conv2d
for dtype in (torch.float32, torch.bfloat16):
    ones = torch.ones(1, 4, 5, 5, dtype=dtype)
    print(deform_conv2d(ones, torch.zeros(1, 2, 5, 5), torch.ones(1, 4, 1, 1), backend="gather").sum().item())
"""


def samples(cache, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "-c", SAMPLES],
        env={**clean, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_loops_are_kept_in_the_users_cache_apart_by_dtype(tmp_path):
    assert samples(tmp_path).stdout.split() == ["100.0", "100.0"]
    indices = sorted(path.name for path in tmp_path.glob("nnunet_fganet/*/*/*.nbi"))
    for dtype in ("float32", "bfloat16"):
        assert any("samples" in name and dtype in name for name in indices), indices
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}
    assert samples(tmp_path).stdout.split() == ["100.0", "100.0"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")} == written
    assert samples(tmp_path, NUMBA_BOUNDSCHECK="1").stdout.split() == ["100.0", "100.0"]
    assert len(list(tmp_path.glob("nnunet_fganet/*"))) == 2  # loops that check every index are kept apart


@pytest.mark.slow
def test_without_a_folder_to_write_to_loops_are_compiled_all_the_same(tmp_path):
    (tmp_path / "file").touch()
    for variable in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        done = samples(tmp_path, **{variable: str(tmp_path / "file" / "folder")})
        assert done.stdout.split() == ["100.0", "100.0"], done.stderr
