"""Draw the funnel of a run as SVG: what each stage passes on, and what it loses.

    python tools/funnel_picture.py RUN DATASET picture.svg

The picture needs no font or style sheet of its own, and is legible on light and dark backgrounds.
"""

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

_SCALE = 5.0  # pixels per candidate of a list of 40
_LEFT, _STAGE, _BAND = 170, 26, 215  # widths: before the first stage, of a stage, after a stage
_AXIS = 150  # height at which relevant candidates (above) and others (below) meet
_BLUE, _RED, _GREY, _INK, _PAPER = "#1f77b4", "#d62728", "#c7ccd1", "#1f2933", "#ffffff"


def funnel_svg(report: dict[str, Any], candidates: float) -> str:
    """Return the picture of an evaluation.

    Args:
        report: ``test`` of the ``report.json`` of a run whose ground truth has ``k`` candidates.
        candidates: mean number of candidates per request.
    """
    k, stages = report["ground_truth"]["k"], report["stages"]
    scale = _SCALE * 40 / candidates
    sizes = [candidates, *(stage["quota"] for stage in stages.values())]
    relevant = [k, *(k * stage["survival"]["mean"] for stage in stages.values())]
    bottom = _AXIS + scale * (candidates - k)
    parts = [_band(0, _LEFT, scale, sizes[0], relevant[0])]
    parts.append(_text(18, _AXIS - scale * k - 12, f"{_number(candidates)} candidates", bold=True))
    parts.append(_text(18, _AXIS - scale * k / 2 + 5, f"{_number(k)} relevant", color=_PAPER))
    x = float(_LEFT)
    for i, (name, stage) in enumerate(stages.items(), start=1):
        right = x + _STAGE
        lost = scale * (relevant[i - 1] - relevant[i])
        dropped = scale * (sizes[i - 1] - sizes[i]) - lost
        top = _AXIS - scale * relevant[i - 1]
        floor = _AXIS + scale * (sizes[i - 1] - relevant[i - 1])
        parts.append(_band(right, _BAND, scale, sizes[i], relevant[i]))
        parts.append(_flow(right, top, lost, 62 - top, _RED))
        parts.append(_flow(right, floor - dropped, dropped, bottom + 34 - floor, _GREY))
        parts.append(
            f'<rect x="{x:.0f}" y="{top - 8:.1f}" width="{_STAGE}" height="{floor - top + 16:.1f}" '
            f'rx="5" fill="{_INK}"/>'
        )
        middle = x + _STAGE / 2
        parts.append(_text(middle, 30, name, bold=True, anchor="middle"))
        label = f"{relevant[i - 1] - relevant[i]:.2f} relevant lost"
        parts.append(_text(right + 66, 66, label, color=_RED))
        others = sizes[i - 1] - sizes[i] - (relevant[i - 1] - relevant[i])
        parts.append(_text(right + 66, bottom + 38 - dropped / 2, f"{others:.1f} others dropped"))
        parts.append(
            _text(
                right + 14,
                _AXIS - scale * relevant[i] / 2 + 5,
                f"{relevant[i]:.2f} relevant",
                color=_PAPER,
            )
        )
        parts.append(_text(right + 14, _AXIS + 20, f"{stage['quota']} passed on"))
        x = right + _BAND
    joint = report["metrics"]["joint_recall"]["mean"]
    parts.append(_text(x + 16, _AXIS - 22, "joint recall", bold=True))
    parts.append(_text(x + 16, _AXIS + 10, f"{joint:.3f}", bold=True, size=30))
    width, height = x + 150, bottom + 96
    perfect = "    ".join(
        f"{name} {stage['ceiling_if_perfect']['mean']:.3f}" for name, stage in stages.items()
    )
    ending = f"joint recall if one stage alone were perfect:  {perfect}"
    parts.append(_text(18, height - 18, ending))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'role="img" font-family="Helvetica, Arial, sans-serif" font-size="15">\n'
        f"<title>Candidates and relevant candidates that each stage passes on</title>\n"
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="12" fill="{_PAPER}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _band(x: float, width: float, scale: float, size: float, relevant: float) -> str:
    """Return the candidates between two stages: the relevant ones above the axis."""
    above, below = scale * relevant, scale * (size - relevant)
    return (
        f'<rect x="{x:.0f}" y="{_AXIS - above:.1f}" width="{width:.0f}" height="{above:.1f}" '
        f'fill="{_BLUE}"/>'
        f'<rect x="{x:.0f}" y="{_AXIS}" width="{width:.0f}" height="{below:.1f}" fill="{_GREY}"/>'
    )


def _flow(x: float, y: float, thickness: float, rise: float, color: str) -> str:
    """Return candidates that leave the funnel: a band that bends by ``rise`` pixels."""
    end, bend = x + 58, x + 30
    return (
        f'<path d="M{x:.0f} {y:.1f} C{bend} {y:.1f} {bend} {y + rise:.1f} {end} {y + rise:.1f} '
        f"v{thickness:.1f} C{bend} {y + rise + thickness:.1f} {bend} {y + thickness:.1f} "
        f'{x:.0f} {y + thickness:.1f} Z" fill="{color}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    color: str = _INK,
    bold: bool = False,
    anchor: str = "start",
    size: int = 15,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.0f}" y="{y:.1f}" fill="{color}" font-size="{size}" '
        f'text-anchor="{anchor}"{weight} xml:space="preserve">{escape(text)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def picture_of(run: Path, dataset: Path) -> str:
    """Return the picture of a complete run on the test requests of its data set."""
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return funnel_svg(report["test"], manifest["candidates"] / manifest["requests"])


if __name__ == "__main__":
    _run, _dataset, _target = map(Path, sys.argv[1:])
    _target.write_text(picture_of(_run, _dataset), encoding="utf-8")
