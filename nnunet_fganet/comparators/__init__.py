"""The networks that FGA-Net is compared with, each trainable by nnU-Net (docs/comparators.md)."""
