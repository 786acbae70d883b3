"""Pictures as SVG that follows the colours of the page, and as files for slides."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cascaderank.extras import require
from cascaderank.reports._html.blocks import Picture

WIDTH: Final = 7.4
"""Width of a picture in inches, on a page and in a file."""

NARROW_WIDTH: Final = 3.5
"""Width of a picture in inches on a phone."""

INK: Final = "#1b1b1f"
MUTED: Final = "#5d5d69"
GRID: Final = "#e3e3e8"
PAPER: Final = "#fdfdfe"
ON_FILL: Final = "#fffffe"
"""Colour of text on bars; the others are those of text, lines and the page."""
BLUE: Final = "#0072b2"
ORANGE: Final = "#d55e00"
GREEN: Final = "#009e73"
PURPLE: Final = "#cc79a7"
YELLOW: Final = "#e69f00"
SKY: Final = "#56b4e9"

STAGES: Final = (BLUE, GREEN, PURPLE, YELLOW, SKY, INK)
"""Colours of the stages, first stage first: the palette of Okabe and Ito without orange, which
denotes losses; distinguishable with colour blindness."""

LINES: Final = ("-", "--", "-.", ":")
"""Styles of lines, so that no line is identified by its colour alone."""

MARKERS: Final = ("o", "s", "^", "D", "v", "P")

_VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    ON_FILL: "--on-fill",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
    YELLOW: "--yellow",
    SKY: "--sky",
}
"""Variables of the style sheet of the page by colour."""

_STYLE: Final = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "hatch.linewidth": 0.6,
}


def stage_colour(stage: int) -> str:
    """Return the colour of a stage by its index, the same in all pictures."""
    return STAGES[stage % len(STAGES)]


def shortened(text: str, *, narrow: bool) -> str:
    """Return a name that leaves space for the picture beside it.

    Args:
        text: name, such as that of a stage.
        narrow: whether the figure is narrow.

    Examples:
        >>> shortened("a_stage_with_a_long_name", narrow=True)
        'a_stage_with_a_lo…'
    """
    longest = 18 if narrow else 34
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def columns_of(figure: Any, count: int, *, narrow: bool, **options: Any) -> Sequence[Any]:
    """Return axes side by side, or one below the other if narrow.

    Args:
        figure: empty figure.
        count: number of axes.
        narrow: whether the figure is narrow.
        options: options of ``Figure.subplots``.
    """
    shape = (count, 1) if narrow else (1, count)
    axes: Sequence[Any] = figure.subplots(*shape, squeeze=False, **options).ravel()
    return axes


def inline_svg(picture: Picture, *, prefix: str, narrow: bool = False) -> str:
    """Draw a picture as an ``<svg>`` element for a page; equal pictures result in equal text.

    Args:
        picture: picture to draw.
        prefix: prefix of the ids in the element, distinct in a page.
        narrow: whether to draw it for a phone.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    content = _saved(picture, "svg", narrow=narrow, face="none").decode()
    return _themed(_own_ids(content[content.index("<svg") :], prefix))


def picture_files(picture: Picture) -> dict[str, bytes]:
    """Draw a picture on white, for slides; equal pictures result in equal bytes.

    Args:
        picture: picture to draw.

    Returns:
        Contents of the files by extension: ``png`` and ``svg``.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    return {kind: _saved(picture, kind, narrow=False, face="white") for kind in ("png", "svg")}


def _saved(picture: Picture, kind: str, *, narrow: bool, face: str) -> bytes:
    matplotlib = require("matplotlib", extra="report")
    figures = require("matplotlib.figure", extra="report")
    metadata: Mapping[str, str | None] = {"Software": None} if kind == "png" else {"Date": None}
    size = (NARROW_WIDTH, picture.narrow_height) if narrow else (WIDTH, picture.height)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": picture.name}):
        figure = figures.Figure(figsize=size, layout="constrained", facecolor=face)
        picture.draw(figure, narrow)
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=200, metadata=metadata, facecolor=face)
    return content.getvalue()


def _own_ids(svg: str, prefix: str) -> str:
    """Remove ids without references, and prefix the others: ids are distinct in a page."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))

    def of_page(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="([^"]+)"', of_page, svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)


def _themed(svg: str) -> str:
    """Replace colours by variables of the style sheet, and the size by that of the page."""
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    # The page gives the name and the width; text in the fonts of the page.
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    rest = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", rest)
    return f'{head} aria-hidden="true" focusable="false">{rest}'
