"""``cascaderank prepare``: make a data set from files of other layouts, or out of thin air."""

import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cascaderank.cli.shell import AsJson, Bars, emit, emit_json, say, user_errors
from cascaderank.errors import ConfigError, DataError, did_you_mean


@user_errors
def prepare(
    source: Annotated[
        str, typer.Argument(help="What to read; `cascaderank ls sources` lists them.")
    ],
    to: Annotated[Path, typer.Option(help="Folder of the data set to write.")],
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", help="File or folder to read; may be given again."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Option of the source, name=value as in TOML; may be given again."
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the data set at --to, once the new one is whole."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set, and print what is in it."""
    from cascaderank.data.log.request_log import RequestLog
    from cascaderank.data.log.summary import summarise
    from cascaderank.data.sources import SOURCES
    from cascaderank.reports.dataset_tables import dataset_table

    options = source_options(source, changes or [])
    if (to / "manifest.json").is_file() and not overwrite:
        raise DataError(
            f"{to}: there is a data set already; choose another folder, or say --overwrite"
        )
    started = time.monotonic()
    takes = SOURCES.options(source)
    with Bars() as bars:
        offered = {"overwrite": overwrite, "progress": _percent(bars)}
        SOURCES[source](
            tuple(from_ or ()), to, **{k: v for k, v in offered.items() if k in takes}, **options
        )
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
    say(f"the data set is in {to}")


def source_options(source: str, changes: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs as options of a source.

    Args:
        source: name of a registered source.
        changes: pairs; a value is TOML, or else the text as it stands, so that
            ``label=is_click`` needs no quotes.

    Returns:
        The options by name, of the types that the source declares.

    Raises:
        ConfigError: if there is no such source, or for all that is wrong with the options.

    Examples:
        >>> source_options("letor", ["features=46", "transform=none"])
        {'features': 46, 'transform': <Transform.NONE: 'none'>}
    """
    from cascaderank.data.sources import NOT_OPTIONS, SOURCES

    known = [option for option in SOURCES.options(source) if option not in NOT_OPTIONS]
    options: dict[str, object] = {}
    mistakes = []
    for change in changes:
        name, equals, text = change.partition("=")
        name = name.strip()
        if not equals or not name:
            mistakes.append(f"--set takes name=value, such as {known[0]}=...; got '{change}'")
        elif name not in known:
            mistakes.append(
                f"source '{source}' has no option '{name}'{did_you_mean(name, known)}; "
                f"it takes {', '.join(known)}"
            )
        else:
            options[name] = _value(source, name, text.strip())
    mistakes += SOURCES.option_mistakes(source, options)
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return SOURCES.checked_options(source, options)


def _value(source: str, option: str, text: str) -> object:
    """Return the text as TOML if it is, or as it stands where only that fits the option."""
    from cascaderank.data.sources import SOURCES

    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    if set(parsed) != {"value"} or SOURCES.option_mistakes(source, {option: parsed["value"]}):
        as_text = not SOURCES.option_mistakes(source, {option: text})
        return text if as_text or set(parsed) != {"value"} else parsed["value"]
    return parsed["value"]


def _percent(bars: Bars) -> Callable[[int, int], None]:
    """Return a progress callback that moves one bar from 0 to 100."""
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
