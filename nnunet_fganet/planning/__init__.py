"""Plans for FGA-Net: patch, batch, network and training settings from the data."""
