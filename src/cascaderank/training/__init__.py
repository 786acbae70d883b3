"""Training and evaluation of a run: the loop, its checkpoints, and its result."""
