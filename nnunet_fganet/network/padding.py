"""Images of any size for networks that halve them several times."""

from collections.abc import Callable

import torch
from torch.nn import functional

Outputs = torch.Tensor | list[torch.Tensor]

FEWEST_MULTIPLES = 2  # so that normalisation sees several pixels at the lowest resolution, too


def run_padded(network: Callable[[torch.Tensor], Outputs], image: torch.Tensor, multiple: int) -> Outputs:
    """Apply ``network`` to an image padded with zeros, bottom and right, and crop its outputs back.

    Parameters
    ----------
    network
        Returns one output, or a list of them, of the size of its input.
    image
        ``(batch, channels, H, W)``.
    multiple
        Height and width that the network takes are multiples of it, of at least two of them; an
        image of such a size is not padded.

    Returns
    -------
    torch.Tensor or list of torch.Tensor
        As from ``network``, with H and W of the image; cropped outputs are contiguous.
    """
    height, width = image.shape[2:]
    missing_rows, missing_columns = _padded(height, multiple) - height, _padded(width, multiple) - width
    if not (missing_rows or missing_columns):
        return network(image)
    outputs = network(functional.pad(image, (0, missing_columns, 0, missing_rows)))
    if isinstance(outputs, list):
        return [each[..., :height, :width].contiguous() for each in outputs]
    return outputs[..., :height, :width].contiguous()


def _padded(size: int, multiple: int) -> int:
    """Next size that the network takes."""
    # Rounded up without negative numbers: OpenVINO divides those towards zero, and sizes are numbers of its graph.
    return max((size + multiple - 1) // multiple, FEWEST_MULTIPLES) * multiple
