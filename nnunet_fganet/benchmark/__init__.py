"""What a frame and a training step cost on this machine, beside the released network and the machine's limit."""
