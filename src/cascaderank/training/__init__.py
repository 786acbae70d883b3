"""Training a cascade: the loop, its checkpoints, and the folder it leaves."""
