"""Execution of the trials of a comparison.

A backend is a context manager that yields a :data:`~cascaderank.experiments.execution.job.Start`:
a function that starts a job on the data of its fold and returns the future of its outcome. The
backend ``local`` runs jobs on this machine. No other module of ``experiments`` depends on the
backend.
"""
