"""Intervals and tests over requests and seeds."""
