"""Experiments: methods beside one another, on equal terms."""
