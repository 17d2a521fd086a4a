"""Stochastic gradient descent that takes one pass over the weights on a CPU."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.autograd.graph import increment_version


def make_sgd(
    parameters: Iterable[nn.Parameter], device: torch.device, learning_rate: float, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """SGD with Nesterov momentum; fused on a CPU, where the released network's update then takes 13 ms instead of 83.

    torch's fused update leaves two things undone that its plain one does: it does not raise the weights' version
    counters, by which FGA-Net knows that it must be prepared anew, and it cannot begin the momentum of a weight later
    than that of others (of a frozen encoder). With a gradient scaler, which only GPUs have here, it would keep momentum
    that nobody has written where the first step overflows.
    """
    fused = device.type == "cpu"
    optimizer = torch.optim.SGD(
        parameters, learning_rate, momentum, weight_decay=weight_decay, nesterov=momentum > 0, fused=fused or None
    )
    if fused:
        optimizer.register_step_post_hook(_raise_versions)
        if momentum:
            _begin_momentum(optimizer)
    return optimizer


def _raise_versions(optimizer: torch.optim.Optimizer, *_: object) -> None:
    increment_version([weight for group in optimizer.param_groups for weight in group["params"]])


def _begin_momentum(optimizer: torch.optim.SGD) -> None:
    """Begin with zeros, from which the first step makes the gradient: what a plain first step begins with."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
