"""Experiments: comparison of methods on the same requests, stages, budget and seeds."""
