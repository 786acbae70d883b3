# Written by tools/generate.py from the modules of this package: do not edit.
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec
from pydantic import JsonValue
from cascaderank.data.log.destination import check_inputs as check_inputs
from cascaderank.errors import ConfigError as ConfigError
from cascaderank.errors import DataError as DataError
from cascaderank.registry import Registry as Registry
from cascaderank.regular_files import check_path as check_path
from cascaderank.regular_files import system_errors as system_errors
_P = ParamSpec('_P')
Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Progress = Callable[[int, int], None]
NOT_OPTIONS = ('overwrite', 'progress')
def paths_of(from_: Inputs | None) -> list[Path]:
    ...
SOURCES: Registry[Callable[..., None]]
@dataclass(frozen=True)
class Proposal:
    """Options of a source that were inferred from its files, for editing."""
    toml: str
    'File of options, with comments on the columns; ``prepare --options FILE`` reads it.'
    facts: dict[str, JsonValue]
    'The same as values: ``options``, ``columns`` and counts.'
DRY_RUNS: dict[str, Callable[..., Proposal]]
def propose(source: str, from_: Inputs, **options: object) -> Proposal:
    ...
def checked_options(source: Callable[_P, None]) -> Callable[_P, None]:
    ...
from cascaderank.data.sources.kuairand import kuairand_source as kuairand_source
from cascaderank.data.sources.kuairec import kuairec_source as kuairec_source
from cascaderank.data.sources.letor import letor_source as letor_source
from cascaderank.data.sources.long import long_source as long_source
from cascaderank.data.sources.recflow import recflow_source as recflow_source
from cascaderank.data.sources.synthetic import synthetic_source as synthetic_source
from cascaderank.data.sources.trec import trec_source as trec_source
