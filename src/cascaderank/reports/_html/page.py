"""A report as one HTML page: chapters in a template, with the style sheet and pictures inside."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascaderank.atomic import writing
from cascaderank.errors import printable
from cascaderank.extras import require
from cascaderank.reports._html.blocks import Chapter
from cascaderank.reports._html.drawing import inline_svg, picture_files
from cascaderank.runs.folder import write_atomically

_TEMPLATES = Path(__file__).with_name("templates")


def page_of(chapters: Sequence[Chapter], *, title: str) -> str:
    """Return a report as an HTML page that needs no other file, no network and no JavaScript.

    Text is escaped, also names of features and ids of requests.

    Args:
        chapters: chapters in order, at least one.
        title: title of the page.

    Raises:
        MissingExtraError: if Jinja2 or matplotlib is not installed.
    """
    jinja2 = require("jinja2", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {
        f"{chapter.key}-{picture.name}": {
            width: inline_svg(
                picture, prefix=f"{chapter.key}-{picture.name}-{width}", narrow=width == "narrow"
            )
            for width in ("wide", "narrow")
        }
        for chapter in chapters
        for picture in chapter.pictures
    }
    rendered: str = environment.get_template("report.html.j2").render(
        title=title,
        chapters=chapters,
        pictures={key: _safe(jinja2, svgs) for key, svgs in pictures.items()},
        style=jinja2.utils.markupsafe.Markup((_TEMPLATES / "report.css").read_text("utf-8")),
    )
    return printable(rendered)  # HTML has no control characters


def _safe(jinja2: Any, svgs: Mapping[str, str]) -> dict[str, Any]:
    """Mark pictures as HTML; matplotlib escapes the text in them."""
    return {width: jinja2.utils.markupsafe.Markup(svg) for width, svg in svgs.items()}


def write_pictures(chapters: Sequence[Chapter], folder: str | os.PathLike[str]) -> list[Path]:
    """Write the pictures of a report as PNG and SVG files, for slides.

    Args:
        chapters: chapters of the report.
        folder: folder of the files; created if it does not exist.

    Returns:
        Paths of the files.

    Raises:
        RunError: if a file cannot be written.
        MissingExtraError: if matplotlib is not installed.
    """
    written = []
    with writing(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    for path, content in _files(chapters, Path(folder)):
        write_atomically(path, content)
        written.append(path)
    return written


def picture_paths(chapters: Sequence[Chapter], folder: str | os.PathLike[str]) -> list[Path]:
    """Return the paths of the files of :func:`write_pictures`."""
    return [
        Path(folder) / f"{_stem(chapter, picture.name, chapters)}.{kind}"
        for chapter in chapters
        for picture in chapter.pictures
        for kind in ("png", "svg")
    ]


def _files(chapters: Sequence[Chapter], folder: Path) -> Any:
    for chapter in chapters:
        for picture in chapter.pictures:
            for kind, content in picture_files(picture).items():
                yield folder / f"{_stem(chapter, picture.name, chapters)}.{kind}", content


def _stem(chapter: Chapter, name: str, chapters: Sequence[Chapter]) -> str:
    return name if len(chapters) == 1 else f"{chapter.key}-{name}"
