"""Value of one policy from the log of another, on the Open Bandit Dataset, where both are known.

The Python package ``obp`` contains a sample of the data: 10,000 exposures of each of two policies
("random" and "bts", Bernoulli Thompson sampling), in three campaigns, with propensities. Run with::

    python -m pip download --no-deps obp==0.4.1
    python examples/open_bandit.py obp-0.4.1-py3-none-any.whl

Data: Saito, Aihara, Matsutani and Narita, Open Bandit Dataset and Pipeline (NeurIPS 2021), CC BY
4.0.
"""

import io
import sys
import zipfile
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from cascaderank.evaluation import (
    ExposureLog,
    Summary,
    bootstrap_interval,
    off_policy_difference,
)
from cascaderank.reports import off_policy_tables

POSITIONS, PRIOR = 3, 100.0


@dataclass(frozen=True)
class Feedback:
    """Exposures of one policy in one campaign; each row is one item at one position."""

    item: NDArray[np.int64]
    position: NDArray[np.int64]
    click: NDArray[np.float64]
    propensity: NDArray[np.float64]
    items: int
    """Number of items of the campaign; some policy may not expose all of them."""

    def policy(self) -> NDArray[np.float64]:
        """Return the share of each item in the exposures of a position, ``[positions, items]``."""
        counts = np.zeros((POSITIONS, self.items))
        np.add.at(counts, (self.position, self.item), 1)
        return counts / counts.sum(1, keepdims=True)

    def log(self) -> ExposureLog:
        """Return the log; the logged propensity is that of the exposed item only."""
        exposed = self.item[:, None] == np.arange(self.items)
        propensities = np.where(exposed, self.propensity[:, None], self.policy()[self.position])
        return ExposureLog(
            rewards=exposed * self.click[:, None], exposed=exposed, propensities=propensities
        )

    def predicted(self) -> NDArray[np.float64]:
        """Return click rates of the items, each from the other half of the rows, ``[rows, items]``.

        Rates are shrunk to the mean, which counts as ``PRIOR`` exposures.
        """
        half = np.arange(len(self.item)) % 2
        found = np.empty((len(half), self.items))
        for part in (0, 1):
            other = half != part
            clicks = np.bincount(self.item[other], self.click[other], self.items)
            shown = np.bincount(self.item[other], minlength=self.items)
            mean = self.click[other].mean()
            found[half == part] = (clicks + PRIOR * mean) / (shown + PRIOR)
        return found


def read(wheel: str, campaign: str) -> dict[str, Feedback]:
    """Read the feedback of both policies from the package, by the name of the policy."""
    columns = ["item_id", "position", "click", "propensity_score"]
    with zipfile.ZipFile(wheel) as files:
        frames = {
            policy: pl.read_csv(
                io.BytesIO(files.read(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv")),
                columns=columns,
            )
            for policy in ("random", "bts")
        }
    items = max(int(frame["item_id"].to_numpy().max()) for frame in frames.values()) + 1
    return {
        policy: Feedback(
            item=frame["item_id"].to_numpy(),
            position=frame["position"].to_numpy() - 1,
            click=frame["click"].to_numpy().astype(np.float64),
            propensity=frame["propensity_score"].to_numpy(),
            items=items,
        )
        for policy, frame in frames.items()
    }


def main(wheel: str) -> None:
    """Estimate each policy from the log of the other, and print its own click rate beside it."""
    console = Console(width=80)
    for campaign in ("all", "men", "women"):
        both = read(wheel, campaign)
        for logging, target in (("random", "bts"), ("bts", "random")):
            source, own = both[logging], both[target]
            policy = own.policy()
            if target == "random":  # known exactly
                policy = np.full_like(policy, 1 / own.items)
            difference = off_policy_difference(
                source.log(),
                policy[source.position],
                source.log().propensities,
                predicted=source.predicted(),
            )
            console.rule(f"{campaign}: {target} from the log of {logging}")
            for table in off_policy_tables(difference.first):
                console.print(table)
            truth = bootstrap_interval(own.click)
            gain = truth.mean - source.click.mean()
            console.print(f"on-policy value of {target}: {_text(truth)}")
            for name, summary in difference.estimates.items():
                console.print(f"{target} - {logging}, {name}: {_text(summary)}")
            console.print(f"on-policy difference: {gain:.4f}; SNIPS: {difference.better('snips')}")


def _text(summary: Summary) -> str:
    return f"{summary.mean:.4f} [{summary.low:.4f}, {summary.high:.4f}]"


if __name__ == "__main__":
    main(sys.argv[1])
