"""``cascaderank prepare``: convert files of a known layout to a data set, or generate one."""

import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cascaderank.cli.interrupts import after_interrupt, kept_data_set
from cascaderank.cli.shell import AsJson, Bars, emit, emit_json, notify, user_errors
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.text_files import parsed_toml, read_text


@user_errors
def prepare(
    source: Annotated[
        str, typer.Argument(help="Layout of the files; `cascaderank ls sources` lists them.")
    ],
    more: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="More files or folders to read, such as those of an unquoted --from logs/*.csv.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set to write; required without --dry-run."),
    ] = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", help="File, folder or glob such as 'logs/*.csv' to read; can be repeated."
        ),
    ] = None,
    options_file: Annotated[
        Path | None,
        typer.Option(
            "--options", help="TOML file with options of the source; those of --set replace them."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option of the source, name=value as in TOML; can be repeated."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write nothing; print options inferred from the files as TOML, for --options.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the data set at --to when the new one is complete."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Convert files to a data set, or generate a synthetic one, and print a summary.

    `cascaderank ls sources NAME` describes a source and its options.
    """
    from cascaderank.data.log.request_log import RequestLog
    from cascaderank.data.log.summary import summarise
    from cascaderank.data.sources import SOURCES, propose
    from cascaderank.reports.dataset_tables import dataset_table

    options = source_options(source, changes or [], options_file)
    paths = (*(from_ or ()), *(more or ()))
    if dry_run:
        proposal = propose(source, paths, **options)
        if as_json:
            emit_json(proposal.facts)
        else:
            typer.echo(proposal.toml, nl=False)
        return
    if to is None:
        raise ConfigError("--to: expected the folder of the data set to write, found none; set it")
    if (to / "manifest.json").is_file() and not overwrite:
        raise DataError(
            f"--to: {to} already has a data set; choose another folder, or add --overwrite"
        )
    started = time.monotonic()
    accepted = SOURCES.options(source)
    after_interrupt(kept_data_set(to))
    with Bars() as bars:
        common = {"overwrite": overwrite, "progress": _percent_bar(bars)}
        common = {name: value for name, value in common.items() if name in accepted}
        SOURCES[source](paths, to, **common, **options)
    summary = {
        "source": source,
        "path": str(to),
        **summarise(RequestLog.open(to)),
        "seconds": round(time.monotonic() - started, 3),
    }
    if as_json:
        emit_json(summary)
        return
    emit(dataset_table(summary))
    notify(f"wrote the data set to {to}")


def source_options(source: str, changes: Sequence[str], file: Path | None = None) -> dict[str, Any]:
    """Parse ``name=value`` pairs as options of a source.

    Args:
        source: name of a registered source.
        changes: pairs; a value is TOML, or a string if it is not valid TOML or only a string fits
            the option, so that ``label=is_click`` needs no quotes.
        file: TOML file with options, which the pairs replace.

    Returns:
        Options by name, converted to the types that the source declares.

    Raises:
        ConfigError: if no source has the name, the file cannot be read, or options are unknown or
            invalid; the message lists all mistakes.

    Examples:
        >>> source_options("letor", ["features=46", "transform=none"])
        {'features': 46, 'transform': <Transform.NONE: 'none'>}
    """
    from cascaderank.data.sources import NOT_OPTIONS, SOURCES

    known = [option for option in SOURCES.options(source) if option not in NOT_OPTIONS]
    options = {} if file is None else _read_options(file)
    mistakes = []
    changed: dict[str, object] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        name = name.strip()
        if not equals or not name:
            mistakes.append(f"expected name=value, such as {known[0]}=...; got '{change}'")
        elif name not in known:
            mistakes.append(_unknown(source, name, known))
        else:
            changed[name] = _value(source, name, text.strip())
    mistakes += SOURCES.option_mistakes(source, changed)
    of_file = [_unknown(source, name, known) for name in options if name not in known]
    kept = {n: v for n, v in options.items() if n in known and n not in changed}
    of_file += SOURCES.option_mistakes(source, kept)
    parts = [f"--options {file}: {'; '.join(of_file)}"] if of_file else []
    parts += [f"--set: {'; '.join(mistakes)}"] if mistakes else []
    if parts:
        raise ConfigError("; ".join(parts))
    return SOURCES.checked_options(source, options | changed)


def _unknown(source: str, name: str, known: Sequence[str]) -> str:
    return (
        f"source '{source}' has no option '{name}'{did_you_mean(name, known)}; "
        f"it takes {', '.join(known)}"
    )


def _read_options(file: Path) -> dict[str, Any]:
    """Read a TOML file of options."""
    try:
        return parsed_toml(read_text(file))
    except OSError as error:
        raise ConfigError(f"--options {file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"--options {file}: expected TOML: {error}") from None


def _value(source: str, option: str, text: str) -> object:
    """Parse a value as TOML; return the text if it is no TOML value or only the text is valid."""
    from cascaderank.data.sources import SOURCES

    try:
        parsed = parsed_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:
        raise ConfigError(f"--set {option}: {error}") from None
    if set(parsed) != {"value"} or SOURCES.option_mistakes(source, {option: parsed["value"]}):
        as_text = not SOURCES.option_mistakes(source, {option: text})
        return text if as_text or set(parsed) != {"value"} else parsed["value"]
    return parsed["value"]


def _percent_bar(bars: Bars) -> Callable[[int, int], None]:
    """Return a callback ``(done, total)`` that drives a progress bar from 0 to 100 percent."""
    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if shown < 0:
            bars.start("percent read", 100)
            shown = 0
        percent = 100 * done // max(total, 1)
        bars.advance(percent - shown)
        shown = percent

    return progress
