"""Runs: the folder of a run, its data, and loading it, without training."""
