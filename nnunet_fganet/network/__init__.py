"""FGA-Net and its modules, usable without nnU-Net."""
