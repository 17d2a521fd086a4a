"""Turns frames and masks into nnU-Net data sets.

``python -m dataset_conversion.Dataset501_TCGSeg SRC`` and ``fganet convert SRC`` are the command
lines of :func:`dataset_conversion.conversion.convert`.
"""

from dataset_conversion.conversion import Conversion, ConversionOptions, convert

__all__ = ["Conversion", "ConversionOptions", "convert"]
