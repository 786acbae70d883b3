"""Runs without training: the folder of a run, its data, its parts, and loading it."""
