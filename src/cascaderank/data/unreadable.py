"""Errors of Polars on files that are damaged."""

import polars as pl

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""Errors of reading a damaged file; a panic of Polars is no :class:`Exception`, and ends a process
that does not catch it."""
