"""FGA-Net's loss: cross-entropy, soft Dice and soft clDice over all outputs."""
