"""Encoding: fit a schema, and turn a request log into memory-mapped columns of numbers."""

from typing import Any

from cascaderank._moved import moved_name


def __getattr__(name: str) -> Any:
    return moved_name("data.encoding", name)  # this package was a module in 0.1
