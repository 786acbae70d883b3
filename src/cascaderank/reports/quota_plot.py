"""Plot of the front of recall against cost, and of the quotas along it."""

from typing import Any, Literal

from cascaderank.evaluation.quotas import QuotaReport
from cascaderank.extras import require
from cascaderank.reports.figure_files import STYLE, figure_bytes

_BLUE, _ORANGE, _GREEN, _PINK, _SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
"""Colours of Okabe and Ito, distinguishable by the colour-blind."""
_STAGES = (_BLUE, _ORANGE, _GREEN, _PINK, _SKY, "#E69F00", "#000000")
_STYLES = ("-", "--", "-.", ":")
_LOG_SCALE_RATIO = 10


def quota_plot(report: QuotaReport, kind: Literal["png", "svg"] = "png") -> bytes:
    """Draw recall against cost (left), and the quotas of the front (right).

    Left: the front on the validation requests, its recall on the test requests with intervals, and
    the present quotas, the best ones, the best without a stage, and uneven ones, all on the test
    requests. Stages are distinguished by the style of the line, too.

    Args:
        report: result of :func:`~cascaderank.evaluation.quotas.report_quotas`.
        kind: format of the file.

    Returns:
        Contents of a file.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="report")
    figures = require("matplotlib.figure", extra="report")
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(figsize=(10.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        _draw_front(report, left)
        _draw_quotas(report, right)
        ticker = require("matplotlib.ticker", extra="report")
        costs = [point.cost for point in report.front]
        for axes in (left, right):
            if costs[-1] > _LOG_SCALE_RATIO * costs[0] > 0:
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(ticker.NullFormatter())
            products = report.unit == "products"
            axes.xaxis.set_major_formatter(
                ticker.EngFormatter() if products else ticker.FormatStrFormatter("%g")
            )
            unit = "multiply-adds" if products else "milliseconds"
            axes.set_xlabel(f"mean {unit} of a request")
            axes.grid(color="#e6e6e6", lw=0.7)
            axes.set_axisbelow(True)
        return figure_bytes(figure, kind)


def _draw_front(report: QuotaReport, axes: Any) -> None:
    front = report.front
    costs = [point.cost for point in front]
    axes.fill_between(
        costs,
        [point.test.low for point in front],
        [point.test.high for point in front],
        color=_BLUE,
        alpha=0.15,
        lw=0,
        label="95 % interval, test",
    )
    test = [point.test.mean for point in front]
    axes.plot(costs, test, color=_BLUE, lw=1.8, label="front, test requests")
    recalls = [point.recall for point in front]
    axes.plot(costs, recalls, color="#555555", lw=1, ls="--", label="front, validation requests")
    if report.goal.kind == "budget":
        axes.axvline(report.goal.value, color="#999999", lw=0.8, ls=":", label="budget")
    else:
        axes.axhline(report.goal.value, color="#999999", lw=0.8, ls=":", label="recall to reach")
    uneven = report.uneven
    for label, x, recall, marker, colour in (
        ("present quotas", report.present.cost, report.present.test, "D", _ORANGE),
        ("uneven quotas", uneven.cost, uneven.test, "P", _PINK),
        ("best quotas", report.best.cost, report.best.test, "o", _GREEN),
    ):
        axes.plot(x, recall.mean, marker, color=colour, ms=8, mec="white", label=label, zorder=4)
    found = [(name, point) for name, point in report.without.items() if point is not None]
    for i, (name, point) in enumerate(found):
        shown = None if i else "without a stage"
        axes.plot(point.cost, point.test.mean, "v", color="black", ms=6, label=shown, zorder=3)
        right = point.cost > (costs[0] * costs[-1]) ** 0.5
        axes.annotate(
            f"without {name}"[:28],
            (point.cost, point.test.mean),
            xytext=(-8 if right else 8, -4),
            ha="right" if right else "left",
            va="top",
            textcoords="offset points",
            fontsize=8,
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
        )
    axes.set_ylabel("joint recall")
    axes.set_title("Recall against cost")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_quotas(report: QuotaReport, axes: Any) -> None:
    costs = [point.cost for point in report.front]
    for i, name in enumerate(report.stages):
        colour = _STAGES[i % len(_STAGES)]
        quotas = [point.quotas[i] for point in report.front]
        line = _STYLES[i % len(_STYLES)]
        axes.step(costs, quotas, where="post", color=colour, ls=line, lw=1.6, label=name[:28])
        axes.plot(report.best.cost, report.best.quotas[i], "o", color=colour, ms=6, mec="white")
        axes.plot(report.present.cost, report.present.quotas[i], "D", color=colour, mfc="none")
    if report.front[-1].quotas[0] > _LOG_SCALE_RATIO * report.front[0].quotas[-1]:
        axes.set_yscale("log")
    axes.set_ylabel("quota")
    axes.set_title("Quotas of the front; dot: best, diamond: present")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
