"""Whatever learns: sampling, the loop, checkpoints, and one driver for every fit."""
