"""The rows of the paper's Tables 1 and 2, to print beside ours: measured on another data set, by others.

Wang et al., Quant Imaging Med Surg 2025;15(5):4689-4707: TCGSeg's test set, on an RTX 4090.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One row, in per cent; ``gflops`` (as the paper calls its count) and ``milliseconds`` are not in Table 2."""

    title: str
    auc: float
    macro_f1: float
    dice: float
    miou: float
    oiou: float
    gflops: float | None = None
    milliseconds: float | None = None


TABLE_1 = (
    PaperRow("U-Net", 91.55, 83.37, 66.80, 50.76, 50.68, 54.98, 4.06),
    PaperRow("U-Net++", 89.75, 84.01, 68.07, 52.35, 51.54, 139.61, 18.68),
    PaperRow("Attention U-Net", 87.90, 83.80, 67.64, 52.06, 50.47, 266.53, 17.42),
    PaperRow("CE-Net", 88.32, 84.28, 68.60, 53.08, 51.95, 35.60, 4.02),
    PaperRow("DeepLabV3+", 85.42, 83.30, 66.64, 51.32, 49.47, 83.32, 21.64),
    PaperRow("FGA-Net", 91.61, 85.63, 71.29, 56.59, 55.30, 75.36, 17.18),
)
TABLE_2 = (
    PaperRow("Baseline", 88.27, 83.14, 66.32, 51.13, 50.23),
    PaperRow("+ BGA", 92.01, 84.22, 68.50, 52.85, 52.32),
    PaperRow("+ SDA", 90.63, 85.14, 70.32, 55.64, 54.05),
    PaperRow("Both, BCE + Dice", 92.78, 84.03, 68.11, 52.47, 51.78),
    PaperRow("Both, with clDice", 91.64, 85.63, 71.29, 56.59, 55.30),
)
