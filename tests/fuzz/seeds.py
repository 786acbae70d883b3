"""All seeds of the fuzzer, by name: each maker writes files into a folder."""

from collections.abc import Callable
from pathlib import Path

from tests.fuzz import run_seeds as of_runs
from tests.fuzz import source_seeds as of_sources
from tests.fuzz.seed import Seed

SEEDS: dict[str, Callable[[Path], Seed]] = {
    maker.__name__: maker
    for maker in (
        of_sources.long_csv,
        of_sources.long_quoted_csv,
        of_sources.long_tsv,
        of_sources.long_gzip,
        of_sources.long_parquet,
        of_sources.long_proposal,
        of_sources.options,
        of_sources.letor,
        of_sources.letor_beside,
        of_sources.trec,
        of_sources.recflow,
        of_sources.kuairand,
        of_sources.kuairand_official,
        of_sources.kuairec,
        of_runs.data_set,
        of_runs.complete_run,
        of_runs.interrupted_run,
        of_runs.config,
        of_runs.comparison,
        of_runs.arguments,
    )
}
