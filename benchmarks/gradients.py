"""How far bfloat16's gradients of a trained model agree with float32's, layer by layer, on real frames.

    python benchmarks/gradients.py MODEL FOLD FRAMES LABELS

MODEL and FOLD as for ``agreement.py``; FRAMES a folder of PNG files of that model's data set, LABELS
one with their masks (nnU-Net's ``labelsTr``). Two frames at a time, the middle 256 x 256 pixels of
each, through the network and the six-output loss, without dropout. Prints, for each two, in how many
layers the cosine similarity of the two gradients is above 0.99, the smallest and the median: as trainings
compute in bfloat16, without products of integers (where the processor has matrix units for them), and with torch's
convolutions, which are in bfloat16 forward too. At the end, for
scale, the similarity of the float32 gradients of different batches: quartiles over the layers.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from agreement import load_network, read_frame

from nnunet_fganet.benchmark.network import with_dropout, with_torchs_convolutions
from nnunet_fganet.benchmark.training import cosine_similarities, layer_gradients
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network import conv, deform_gather
from nnunet_fganet.network.fganet import FGANet

SIZE = 256
LIMIT = 0.99

Gradients = dict[str, torch.Tensor]


def main(model: str, fold: str, frames: str, labels: str) -> None:
    """Print the table."""
    network = load_network(model, fold)
    ways = [("bfloat16", has_matrix_units(), network), ("forward too", False, with_torchs_convolutions(network))]
    if has_matrix_units():
        ways.insert(1, ("without integers", False, network))
    expected = []
    for index, batch in enumerate(_batches(Path(frames), Path(labels))):
        expected.append(_gradients(network, torch.float32, *batch))
        for name, by_integers, computes in ways:
            with ExitStack() as patches:
                for module in (conv, deform_gather):
                    patches.enter_context(patch.object(module, "has_matrix_units", lambda used=by_integers: used))
                gradients = _gradients(computes, torch.bfloat16, *batch)
            found = list(cosine_similarities(gradients, expected[-1]).values())
            above = f"{sum(each > LIMIT for each in found)} of {len(found)}"
            print(f"batch {index}, {name:20}{above:>12}{min(found):>9.4f}{np.median(found):>9.4f}", flush=True)
    between = [list(cosine_similarities(*pair).values()) for pair in combinations(expected, 2)]
    quartiles = np.percentile(np.median(between, axis=0), [25, 50, 75])
    print("between batches, quartiles:", *(f"{each:.3f}" for each in quartiles))


def _batches(frames: Path, labels: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    paths = sorted(frames.glob("*.png"))
    for pair in zip(paths[::2], paths[1::2], strict=False):
        images = [_middle(read_frame(path)) for path in pair]
        masks = [_middle(_read_mask(labels / f"{path.stem.removesuffix('_0000')}.png")) for path in pair]
        yield torch.cat(images), torch.cat(masks)


def _read_mask(path: Path) -> torch.Tensor:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return torch.from_numpy((mask > 0).astype(np.float32))[None, None]


def _middle(image: torch.Tensor) -> torch.Tensor:
    top, left = ((size - SIZE) // 2 for size in image.shape[2:])
    return image[:, :, top : top + SIZE, left : left + SIZE]


def _gradients(network: FGANet, dtype: torch.dtype, images: torch.Tensor, labels: torch.Tensor) -> Gradients:
    network = with_dropout(network, 0.0).to(memory_format=torch.channels_last).train()
    network.inference, network.compute_dtypes = None, {"cpu": dtype}
    network.decoder.deep_supervision = True
    return layer_gradients(network, FGANetLoss(regions=True), images, labels)


if __name__ == "__main__":
    main(*sys.argv[1:])
