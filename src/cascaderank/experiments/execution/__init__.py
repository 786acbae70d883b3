"""Execution: where the trials of a comparison run."""
