"""Which part of the network owes how many changed pixels to bfloat16, for a trained model on real frames.

    python benchmarks/rounding.py MODEL FOLD FRAMES

Arguments as for ``benchmarks/agreement.py``. The network computes in float32; in one part of it the factors of every
convolution, image and weight, are rounded to bfloat16, as a product in bfloat16 with sums in float32 would take them.
Prints, for each part, the pixels that both call wire over those that either does, of all frames together.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from agreement import foreground, load_network, read_frame
from torch import nn

from nnunet_fganet.benchmark.inference import with_backend
from nnunet_fganet.network.deform_conv import DeformConv2d
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.sda import SDA


@torch.no_grad()
def main(model: str, fold: str, frames: str) -> None:
    """Print the table."""
    network = load_network(model, fold)
    images = [read_frame(path) for path in sorted(Path(frames).glob("*.png"))]
    expected = [foreground(in_float32(network)(image)) for image in images]
    for name, part in parts(network).items():
        rounded = in_float32(network)
        for convolution in part(rounded):
            round_factors(convolution)
        found = [foreground(rounded(image)) for image in images]
        both = sum(int((a & b).sum()) for a, b in zip(expected, found, strict=True))
        either = sum(int((a | b).sum()) for a, b in zip(expected, found, strict=True))
        print(f"{name:40}{both / max(either, 1):>10.5f}", flush=True)


def in_float32(network: FGANet) -> FGANet:
    """Copy a network into one that computes in float32, by itself."""
    copied = with_backend(network, "gather")
    copied.inference, copied.compute_dtypes = None, {}
    return copied


def round_factors(convolution: nn.Module) -> None:
    """Round what a convolution multiplies to bfloat16.

    The samples of a deformable one are not rounded anew, only what they are interpolated from.
    """
    convolution.weight.copy_(convolution.weight.bfloat16())
    convolution.register_forward_pre_hook(lambda _, given: (given[0].bfloat16().float(), *given[1:]))


def convolutions(*modules: nn.Module) -> list[nn.Module]:
    """All plain convolutions in modules."""
    return [each for module in modules for each in module.modules() if isinstance(each, nn.Conv2d)]


def attention(network: FGANet, of: str) -> list[nn.Module]:
    """Convolutions of one name in every SDA."""
    return [getattr(each, of) for each in network.modules() if isinstance(each, SDA)]


def outside_attention(network: FGANet, stages: Iterable[nn.Module]) -> list[nn.Module]:
    """Plain convolutions of stages, but for those of SDA."""
    inside = {id(each) for module in network.modules() if isinstance(module, SDA) for each in module.modules()}
    return [each for each in convolutions(*stages) if id(each) not in inside]


def parts(network: FGANet) -> dict[str, Callable[[FGANet], list[nn.Module]]]:
    """Parts of a network, by name; together they are all that a network of the released kind consists of."""
    chosen: dict[str, Callable[[FGANet], list[nn.Module]]] = {
        "all": lambda net: [each for each in net.modules() if isinstance(each, nn.Conv2d | DeformConv2d)],
        "deformable convolutions": lambda net: attention(net, "deform_conv"),
        "SDA: 1 x 1 convolutions": lambda net: attention(net, "pointwise"),
        "SDA: offsets": lambda net: attention(net, "offset_conv"),
        "first convolution": lambda net: convolutions(net.encoder.stages[0])[:1],
        "last convolution": lambda net: [net.decoder.seg_layers[0]],
    }
    for k in range(len(network.encoder.stages)):
        chosen[f"encoder stage {k}"] = lambda net, k=k: outside_attention(net, [net.encoder.stages[k]])
    for k in range(len(network.decoder.stages)):
        chosen[f"decoder stage {k + 1}, BGA"] = lambda net, k=k: convolutions(net.decoder.stages[k].bga)
        chosen[f"decoder stage {k + 1}, block"] = lambda net, k=k: convolutions(net.decoder.stages[k].block)
    return chosen


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
