"""``make demo``: the whole pipeline on phantom frames, from nothing to scores, on the CPU."""
