"""Whether comparators learn in our adapter what their library's own network learns outside it.

    python benchmarks/comparators.py [STEPS]

Trains MONAI's U-Net++ and Attention U-Net and segmentation_models_pytorch's DeepLabV3+, at a quarter of their
widths, on phantom frames of 64 x 64 px (48 frames, batches of 4, binary cross-entropy and Dice, Adam), STEPS steps each
(300 by default), and prints the Dice of both on 32 unseen frames, pooled. U-Net and CE-Net have no network in a
library, and nnU-Net's two are trained without an adapter.
"""

import copy
import sys

import segmentation_models_pytorch as smp
import torch
from monai.networks.nets import AttentionUnet as LibraryAttentionUnet
from monai.networks.nets import BasicUNetPlusPlus
from torch import nn
from torch.nn import functional

from nnunet_fganet.benchmark.network import frame_and_label
from nnunet_fganet.comparators.attention_unet import AttentionUNet
from nnunet_fganet.comparators.deeplabv3plus import DeepLabV3Plus
from nnunet_fganet.comparators.registry import ATTENTION_UNET_WIDTHS, UNET_WIDTHS, scaled, xception65_blocks
from nnunet_fganet.comparators.unetplusplus import UNetPlusPlus

SCALE, SIZE, BATCH = 0.25, 64, 4
TRAINING_FRAMES, TEST_FRAMES = 48, 32


def main(steps: int = 300) -> None:
    """Print the table."""
    training = _frames(range(TRAINING_FRAMES))
    test = _frames(range(TRAINING_FRAMES, TRAINING_FRAMES + TEST_FRAMES))
    print(f"{'network':>20}{'outside':>10}{'adapted':>10}")
    for name in ("U-Net++", "Attention U-Net", "DeepLabV3+"):
        scores = []
        for network in _networks(name):
            _train(network, *training, steps)
            scores.append(_dice(network, *test))
        print(f"{name:>20}" + "".join(f"{score:>10.4f}" for score in scores), flush=True)


def _networks(name: str) -> list[nn.Module]:
    """The library's own network, and ours."""
    unet_widths, attention_widths = scaled(UNET_WIDTHS, SCALE), scaled(ATTENTION_UNET_WIDTHS, SCALE)
    xception = {
        "encoder_name": "tu-xception65",
        "block_cfg": xception65_blocks(SCALE),
        "decoder_channels": 64,
        "decoder_aspp_separable": False,
    }
    features = (*unet_widths, unet_widths[0])
    makers = {
        "U-Net++": (
            lambda: BasicUNetPlusPlus(
                2, 1, 1, features, True, ("relu", {"inplace": True}), "batch", upsample="nontrainable"
            ),
            lambda: UNetPlusPlus(1, 1, widths=unet_widths),
        ),
        "Attention U-Net": (
            lambda: LibraryAttentionUnet(2, 1, 1, attention_widths, (2, 2, 2, 2)),
            lambda: AttentionUNet(1, 1, widths=attention_widths),
        ),
        "DeepLabV3+": (
            lambda: smp.DeepLabV3Plus(encoder_weights=None, in_channels=1, classes=1, **copy.deepcopy(xception)),
            lambda: DeepLabV3Plus(1, 1, **copy.deepcopy(xception)),
        ),
    }
    networks = []
    for maker in makers[name]:
        torch.manual_seed(0)
        networks.append(maker())
    return networks


def _frames(seeds: range) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*(frame_and_label(SIZE, seed, darker=0) for seed in seeds), strict=True)
    return torch.cat(images), torch.cat(labels)


def _train(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,))
        logits, label = _logits(network, images[chosen]), labels[chosen]
        found = logits.sigmoid()
        dice = 2 * (found * label).sum() / (found.sum() + label.sum())
        optimizer.zero_grad()
        (functional.binary_cross_entropy_with_logits(logits, label) + 1 - dice).backward()
        optimizer.step()


@torch.no_grad()
def _dice(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    network.eval()
    found = torch.cat([_logits(network, image[None]) > 0 for image in images]).float()
    return (2 * (found * labels).sum() / (found.sum() + labels.sum())).item()


def _logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The main output: MONAI's U-Net++ has several, and that of its deepest path is the last."""
    outputs = network(images)
    return outputs[-1] if isinstance(outputs, list) else outputs


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
