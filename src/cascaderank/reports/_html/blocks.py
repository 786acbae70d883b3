"""Parts of a report page: tables, pictures, sections and chapters, independent of any template."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

Draw = Callable[[Any, bool], None]
"""Draws into an empty matplotlib figure; ``True`` for a figure as narrow as a phone."""


@final
@dataclass(frozen=True, kw_only=True)
class DataTable:
    """A table of text; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    """Number of first columns that are text; the others are numbers."""
    folded: bool = False
    """Whether the table is closed at first, because it is long."""
    marked: tuple[int, ...] = ()
    """Indices of rows that stand out."""


@final
@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with the caption that describes it in words."""

    name: str
    """Name of its file, such as ``"funnel"``; distinct in a chapter."""
    caption: str
    height: float
    """Height in inches at the width of a page."""
    narrow_height: float
    """Height in inches at the width of a phone."""
    draw: Draw = field(repr=False, compare=False)


@final
@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a chapter that answers one question."""

    key: str
    """Part of the address of the section in the page."""
    title: str
    finding: str = ""
    """The result in a sentence or two."""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[DataTable, ...] = ()
    notes: tuple[str, ...] = ()
    """Definitions and limits, one sentence or more each."""
    listings: tuple[tuple[str, str], ...] = ()
    """Titles and texts in a fixed-width font, such as a config."""


@final
@dataclass(frozen=True, kw_only=True)
class Fact:
    """A number of the first screen, with its name and an explanation."""

    name: str
    value: str
    detail: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Chapter:
    """The report of one run, or of one comparison."""

    key: str
    """Part of the addresses of its sections; distinct in a page."""
    title: str
    subject: str
    """What was trained on what."""
    verdict: str
    """The main result in one sentence."""
    remarks: tuple[str, ...] = ()
    """What limits the verdict."""
    facts: tuple[Fact, ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def pictures(self) -> Sequence[Picture]:
        """All pictures, in order."""
        return [picture for section in self.sections for picture in section.pictures]
