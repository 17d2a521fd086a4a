"""How far the masks of the prepared network agree with the reference's, for a trained model on real frames.

    python benchmarks/agreement.py MODEL FOLD FRAMES [DTYPE [DEVICE]]

MODEL is a folder of nnU-Net results (``nnUNetTrainerFGANet__nnUNetFGANetPlans__2d``), FOLD a number
or ``all``, FRAMES a folder of PNG files, DTYPE float32 (default), bfloat16 or float16, DEVICE cpu (default) or cuda.
The reference computes on the CPU, in float32 with torchvision's deformable convolution. Prints, for every frame, the
pixels that both call wire over those that either does, and at the end the same over all frames.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from nnunet_fganet.benchmark.inference import with_backend
from nnunet_fganet.inference.prepared import optimize_for_inference
from nnunet_fganet.inference.trained import load_predictor
from nnunet_fganet.network.fganet import FGANet


@torch.no_grad()
def main(model: str, fold: str, frames: str, dtype: str = "float32", device: str = "cpu") -> None:
    """Print the table."""
    network = load_network(model, fold)
    reference = with_backend(network, "torchvision")
    reference.inference, reference.compute_dtypes = None, {}
    prepared = optimize_for_inference(network.to(device), getattr(torch, dtype))
    print_agreement(reference, prepared, frames, device)


def print_agreement(reference: nn.Module, other: nn.Module, frames: str, device: str = "cpu") -> None:
    """Pixels that both call wire over those that either does, for every frame of a folder and all together.

    ``other`` computes on ``device``, the reference on the CPU.
    """
    both_total = either_total = 0
    for path in sorted(Path(frames).glob("*.png")):
        image = read_frame(path)
        expected, found = foreground(reference(image)), foreground(other(image.to(device)).cpu())
        both, either = int((expected & found).sum()), int((expected | found).sum())
        both_total, either_total = both_total + both, either_total + either
        print(f"{path.stem:40}{both:>8}{either:>8}{both / max(either, 1):>10.5f}", flush=True)
    print(f"{'all':40}{both_total:>8}{either_total:>8}{both_total / max(either_total, 1):>10.5f}")


def load_network(model: str, fold: str) -> FGANet:
    """Network of a trained model, weights loaded, in evaluation mode."""
    return load_predictor(Path(model), fold).network


def read_frame(path: Path) -> torch.Tensor:
    """Read a grey frame as nnU-Net feeds it: ``(1, 1, H, W)``, mean 0, standard deviation 1."""
    frame = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32)
    return torch.from_numpy((frame - frame.mean()) / max(frame.std(), 1e-8))[None, None]


def foreground(logits: torch.Tensor) -> torch.Tensor:
    """Wire pixels of regions (one channel) or of labels (background first)."""
    return logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1) > 0


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5, 6):
        sys.exit(__doc__)
    main(*sys.argv[1:])
