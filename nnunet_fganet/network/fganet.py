"""FGA-Net (Wang et al., Quant Imaging Med Surg 2025;15(5):4689-4707), built as nnU-Net builds networks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import nn

from nnunet_fganet.network.bga import BGA
from nnunet_fganet.network.conv import Conv2d
from nnunet_fganet.network.conv_block import ConvBlock
from nnunet_fganet.network.counting import conv_feature_map_size
from nnunet_fganet.network.decoder import Decoder
from nnunet_fganet.network.deform_conv import DeformConv2d
from nnunet_fganet.network.encoder import Encoder
from nnunet_fganet.network.padding import run_padded
from nnunet_fganet.network.sda import SDA
from nnunet_fganet.network.weights import LoadedWeights, Versions

RELEASED_FEATURES = (32, 64, 128, 256, 512, 512)
PAPER_TEXT: dict[str, Any] = {
    "features_per_stage": (32, 64, 128, 256, 512, 1024),
    "modulated": True,
    "fusion_kernel_size": 1,
}
"""Arguments for the network that the paper's text describes; the defaults are the released one."""


class FGANet(nn.Module):
    """FGA-Net; the defaults are the released network that made the paper's results.

    Takes any image size: an image is padded with zeros, bottom and right, to the next multiple of
    32 of at least 64 (for six stages), and every output is cropped back.

    Parameters
    ----------
    input_channels
        Channels of the image.
    num_classes
        Channels of each output (logits): 1 for a single region, otherwise background included.
    deep_supervision
        Return the list of all outputs; kept as ``decoder.deep_supervision`` for nnU-Net.
    features_per_stage
        Width of each encoder stage, multiples of 8 (of 4 without SDA); the decoder's follow.
    norm
        ``batch`` or ``instance``: the learnt normalisation layers.
    dropout
        Probability after each convolution of a ConvBlock.
    sda, bga
        The attention and the skip fusion; ``False`` leaves them out (ablation).
    modulated
        Deformable convolutions with a factor for each sampling point (paper's text).
    fusion_kernel_size
        Kernel of BGA's last convolution: 3 as released, 1 in the paper's text.
    zero_offsets
        :meth:`initialize` starts the deformable convolutions as plain ones (Dai et al. 2017).
    deform_backend
        See :data:`nnunet_fganet.network.deform_conv.BACKENDS`.
    strides
        Not used here: nnU-Net's own trainer reads from the plans how many outputs there are, all
        at full resolution (``[[1, 1]]``, once for each output and once more).

    Attributes
    ----------
    compute_dtypes
        Dtype to compute in, by device type (see :func:`nnunet_fganet.precision.compute_dtypes`);
        empty: whatever the caller's autocast says. nnU-Net predicts on CPUs without autocast, so
        the network decides itself; its logits are float32 then.
    inference
        Asked first for the logits of every image, with the network and the image; None is its answer
        where the network itself is to compute (see :mod:`nnunet_fganet.inference.automatic`).

    Raises
    ------
    ValueError
        Fewer than three stages, or widths that SDA cannot divide.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        features_per_stage: Sequence[int] = RELEASED_FEATURES,
        norm: str = "batch",
        dropout: float = 0.2,
        sda: bool = True,
        bga: bool = True,
        modulated: bool = False,
        fusion_kernel_size: int = 3,
        zero_offsets: bool = True,
        deform_backend: str = "auto",
        strides: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if len(features_per_stage) < 3:
            raise ValueError(f"FGA-Net needs at least 3 stages, not {len(features_per_stage)}")
        self.input_channels = input_channels
        self.size_multiple = 2 ** (len(features_per_stage) - 1)
        self.compute_dtypes: dict[str, torch.dtype] = {}
        self.inference: Callable[[FGANet, torch.Tensor], torch.Tensor | None] | None = None
        self._loaded: LoadedWeights | None = None
        make_block = partial(ConvBlock, norm=norm, dropout=dropout)
        make_sda = partial(SDA, modulated=modulated, backend=deform_backend, zero_offsets=zero_offsets)
        make_bga = partial(BGA, norm=norm, fusion_kernel_size=fusion_kernel_size)
        self.encoder = Encoder(input_channels, features_per_stage, make_block, make_sda if sda else None)
        self.decoder = Decoder(
            features_per_stage,
            num_classes,
            make_block,
            make_sda if sda else None,
            make_bga if bga else None,
            deep_supervision,
        )
        # The decoder alone: what the encoder rounds moves offsets and largest pixels of all stages after it, and turns
        # gradients now and then.
        for module in self.decoder.modules():
            if isinstance(module, Conv2d | DeformConv2d):
                module.by_integers = True

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits of an image.

        Parameters
        ----------
        x
            ``(batch, input_channels, H, W)``.

        Returns
        -------
        torch.Tensor or list of torch.Tensor
            ``(batch, num_classes, H, W)``; with deep supervision six of them: the main output,
            decoder stages 4 to 1, the bottleneck.
        """
        if (self.training or torch.is_grad_enabled()) and not torch.compiler.is_compiling():
            self._loaded = None  # a fused optimizer may follow, which changes weights without torch's counting it
        if self.inference is not None and not torch.compiler.is_compiling():
            prepared = self.inference(self, x)
            if prepared is not None:
                return prepared
        dtype = self.compute_dtypes.get(x.device.type)
        if dtype is None:
            return self._logits(x)
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            logits = self._logits(x)
        return [each.float() for each in logits] if isinstance(logits, list) else logits.float()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's, but what is loaded already is not loaded again: nnU-Net loads before every frame."""
        if not assign and self._loaded is not None and self._loaded.still_hold(self, state_dict):
            return self._loaded.result
        result = super().load_state_dict(state_dict, strict, assign)
        is_whole = not (assign or result.missing_keys or result.unexpected_keys)
        self._loaded = LoadedWeights(self, state_dict, result) if is_whole else None
        return result

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move or convert weights to ordinary tensors where nnU-Net does so in inference mode: versions are needed."""
        with torch.inference_mode(False), torch.no_grad():
            return super()._apply(fn, recurse)

    def loaded_weights(self, versions: Versions) -> LoadedWeights | None:
        """What was loaded last, if nothing has changed since; ``versions``: those of the weights now."""
        return self._loaded if self._loaded is not None and self._loaded.versions == versions else None

    def _logits(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        return run_padded(lambda padded: self.decoder(self.encoder(padded)), x, self.size_multiple)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Draw the weights of one module, for ``network.apply(network.initialize)`` as nnU-Net does."""
        if isinstance(module, nn.Conv2d | DeformConv2d):
            nn.init.kaiming_normal_(module.weight, a=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, SDA) and module.zero_offsets:  # applied after the convolutions that it holds
            nn.init.zeros_(module.offset_conv.weight)

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Elements of all convolution outputs for one image of ``input_size`` (H, W): nnU-Net's measure of memory."""
        return conv_feature_map_size(self, self.input_channels, input_size)
