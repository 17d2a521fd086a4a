"""The network and the frames that are measured."""

import copy
from functools import cache

import numpy as np
import torch
from torch import nn

from nnunet_fganet.loss.fganet_loss import FGANetLoss
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.phantom.scenes import draw_synthetic_scene
from nnunet_fganet.phantom.sequence import film_sequence

_DARKER = 2.0  # standard deviations of a frame
_TRAINING_SIZE, _TRAINING_FRAMES, _TRAINING_STEPS = 64, 8, 40


def frame_and_label(size: int, seed: int = 0, darker: float = _DARKER) -> tuple[torch.Tensor, torch.Tensor]:
    """One phantom frame as nnU-Net feeds it (mean 0, standard deviation 1), and its label, ``(1, 1, size, size)``.

    The wire is made darker by so many standard deviations, so that a network finds it after a few training steps.
    """
    rng = np.random.default_rng(seed)
    frame = next(film_sequence(rng, draw_synthetic_scene(rng, 1, size), 1, has_wire=True))
    image = torch.from_numpy(frame.image.astype(np.float32))
    label = torch.from_numpy(frame.mask.astype(np.float32))
    image -= darker * image.std() * label
    return ((image - image.mean()) / image.std())[None, None], label[None, None]


def trained_like_network() -> FGANet:
    """The released network after a few training steps on phantom frames, in evaluation mode.

    It finds most of the dark wires of :func:`frame_and_label`, no others, and behaves as a trained network does where
    it matters here: random weights amplify the last bit of every number until no two ways to compute agree. See
    :func:`call_wire`, too.
    """
    return copy.deepcopy(_trained())


@torch.no_grad()
def call_wire(network: FGANet, frames: torch.Tensor, labels: torch.Tensor) -> None:
    """Set the bias of the head so that the network calls as many pixels of these frames wire as the labels do.

    Where a few training steps lead depends on the last bits of the gradients. Two masks without wire agree, whatever
    computed them.
    """
    logits = network(frames)
    network.get_parameter("decoder.seg_layers.0.bias").sub_(torch.quantile(logits, 1 - labels.mean()))


@cache
def _trained() -> FGANet:
    torch.manual_seed(0)
    network = FGANet(1, 1, deep_supervision=True, dropout=0.0)
    network.apply(network.initialize)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True)
    loss = FGANetLoss(regions=True)
    frames = [frame_and_label(_TRAINING_SIZE, seed) for seed in range(_TRAINING_FRAMES)]
    for step in range(_TRAINING_STEPS):
        batch = [frames[(2 * step + k) % _TRAINING_FRAMES] for k in range(2)]
        images, labels = (torch.cat(each) for each in zip(*batch, strict=True))
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()
    network.zero_grad()
    network.decoder.deep_supervision = False
    call_wire(network.eval(), *(torch.cat(each) for each in zip(*frames, strict=True)))
    return network.to(memory_format=torch.contiguous_format)


def with_dropout(network: FGANet, p: float) -> FGANet:
    """A copy that drops values with probability ``p`` in training."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
    return copied


def with_torchs_convolutions(network: FGANet) -> FGANet:
    """A copy whose plain convolutions train as torch's own do."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        is_ours = isinstance(module, Conv2d)
        if is_ours:
            module.__class__ = nn.Conv2d  # of which ours overrides the forward pass and nothing else
    return copied
