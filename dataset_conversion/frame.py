"""What is known of a frame before it is converted."""

from dataclasses import dataclass
from pathlib import Path

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "train"),  # our folds are made of all frames for training
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Splits by what folders and tables call them."""


@dataclass(frozen=True)
class Frame:
    """A frame with its mask.

    Attributes
    ----------
    image
        The image file, or the Labelme file that the image is embedded in.
    mask
        The mask image or Labelme file.
    source
        ``image`` relative to the source folder, with ``/``.
    split
        ``train`` or ``test``.
    folders
        Names of the folders that tell the frame from others, such as its sequence.
    sequence, patient
        Empty until known; the patient may stay so.
    spacing_mm, time_s
        Pixel spacing and time since the sequence began, as text; empty when unknown.
    case
        nnU-Net's identifier, unique in the data set.
    """

    image: Path
    mask: Path
    source: str
    split: str = "train"
    folders: tuple[str, ...] = ()
    sequence: str = ""
    patient: str = ""
    spacing_mm: str = ""
    time_s: str = ""
    case: str = ""

    @property
    def group(self) -> str:
        """What must not be divided between training and validation: the patient, else the sequence."""
        return self.patient or self.sequence
