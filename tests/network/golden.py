"""Golden values: outputs of the released modules with random weights (see tests/golden/README.md)."""

from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden"


def load(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Arrays of a golden file, and its released state dict."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        tensors = {key: torch.from_numpy(file[key]) for key in file.files}
    parameters = {key.removeprefix("param:"): value for key, value in tensors.items() if key.startswith("param:")}
    return {key: value for key, value in tensors.items() if not key.startswith("param:")}, parameters
