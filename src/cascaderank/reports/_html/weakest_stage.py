"""Verdict of a run: the stage that loses most, and what mending it alone would give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from cascaderank.evaluation import Summary, bootstrap_interval
from cascaderank.experiments.results import planted_for
from cascaderank.reports._html.blocks import Fact
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.wording import number, percent, span


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Joint recall, its ceiling, and the losses by stage."""

    joint: Summary
    ceiling: float
    """Largest joint recall that a cascade can have; see :attr:`ceiling_kind`."""
    ceiling_kind: str
    """``"planted"`` or ``"quotas"``, as in a comparison."""
    lost: Mapping[str, float]
    """Share of the ground truth that each stage cut."""
    mended: Mapping[str, float]
    """Joint recall if the stage alone were perfect."""
    margin: Summary | None
    """Loss of the stage that loses most minus that of the next one; ``None`` for one stage."""

    @property
    def share_of_ceiling(self) -> float:
        """Joint recall divided by the ceiling; NaN for a ceiling of 0."""
        return self.joint.mean / self.ceiling if self.ceiling else float("nan")

    @property
    def by_loss(self) -> tuple[str, ...]:
        """Names of the stages, largest loss first."""
        return tuple(sorted(self.lost, key=lambda name: -self.lost[name]))

    @property
    def total(self) -> float:
        """Share of the ground truth that all stages cut."""
        return sum(self.lost.values())

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        worst = self.by_loss[0]
        if not self.total > 0:
            return "No stage loses ground truth."
        gives = number(self.mended[worst])
        if len(self.lost) == 1:
            return f"{worst} loses {number(self.total)}; a perfect stage would give {gives}."
        return (
            f"{worst} loses most: {number(self.lost[worst])} of {number(self.total)}; mending it "
            f"alone would give {gives}."
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What limits the verdict, one sentence or two each."""
        found, worst = [], self.by_loss[0]
        if not self.total > 0:
            return ()
        if self.margin is not None and not self.margin.low > 0:
            second = self.by_loss[1]
            found.append(
                f"{second} loses about as much, {number(self.lost[second])}: the interval of the "
                f"difference over requests, {span(self.margin, sign='+')}, includes 0."
            )
        best = max(self.mended, key=lambda name: self.mended[name])
        if self.mended[best] > self.mended[worst] + 5e-4:
            found.append(
                f"Mending {best} would give more, {number(self.mended[best])}: what a perfect "
                f"{worst} saves, a later stage may cut."
            )
        return tuple(found)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Numbers of the first screen."""
        ceiling = "the best that the planted preferences allow"
        if self.ceiling_kind == "quotas":
            ceiling = "what a perfect cascade with these quotas would have"
        return (
            Fact(
                name="Joint recall",
                value=number(self.joint.mean),
                detail=f"interval {span(self.joint)}; share of the ground truth that the cascade "
                "returns",
            ),
            Fact(
                name="Share of the ceiling",
                value=percent(self.share_of_ceiling),
                detail=f"of {number(self.ceiling)}, {ceiling}",
            ),
            Fact(
                name="Weakest stage",
                value=self.by_loss[0] if self.total > 0 else "none",
                detail=", ".join(f"{name} loses {number(x)}" for name, x in self.lost.items()),
            ),
        )


def verdict_of(reported: ReportedRun, planted: object = None) -> Verdict:
    """Return the verdict of a run.

    Args:
        reported: the run.
        planted: value of ``planted`` in the manifest of a synthetic log; ``None`` for others.
    """
    test = reported.test
    ceiling, kind = test.metrics["reachable"].mean, "quotas"
    if isinstance(planted, Mapping) and planted_for(reported.settings, planted):
        ceiling, kind = float(planted["joint_recall"]), "planted"
    lost = reported.losses
    first, *others = sorted(lost, key=lambda name: -lost[name])
    margin = None
    if others:
        differences = reported.values(f"lost/{first}") - reported.values(f"lost/{others[0]}")
        margin = bootstrap_interval(
            differences,
            resamples=test.bootstrap,
            seed=reported.settings.evaluation.seed,
            confidence=test.confidence,
        )
    return Verdict(
        joint=test.metrics["joint_recall"],
        ceiling=ceiling,
        ceiling_kind=kind,
        lost=lost,
        mended={name: stage.ceiling_if_perfect.mean for name, stage in test.stages.items()},
        margin=margin,
    )


def subject_of(reported: ReportedRun) -> str:
    """Return what was trained on what, in two sentences."""
    settings, record = reported.settings, reported.record
    sizes: Mapping[str, Any] = record["requests"]
    stages = ", then ".join(
        f"{name} ({stage.model}, keeps {stage.quota:,})" for name, stage in settings.stages.items()
    )
    trained = f"trained with {settings.objective.name} on {sizes['train']:,} requests"
    return (
        f"{stages}; {trained} of {reported.dataset['name']} and evaluated on {sizes['test']:,} "
        f"test requests. Ground truth: {reported.truth}."
    )
