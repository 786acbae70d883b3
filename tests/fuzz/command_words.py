"""Mutations of a command line: words are removed, repeated, exchanged, and replaced."""

from functools import cache
from random import Random

import typer

from cascaderank.cli import app

WORDS = (
    "", " ", "-", "--", "-1", "0", "1", "2", "1.5", "nan", "inf", "-inf", "1e400", "1e-320", "2000000000",
    "1000000000000000000", "9" * 30, "9" * 5000, "1,2", ",", "1,,2", "1,x", "0,-1", "x", "é", "١٢", "\udcff", "\n",
    "x" * 5000, "*", "[", "../..", ".", "auto", "log", "run", "config.toml", "rows.csv", "log/manifest.json",
    "/dev/zero", "/dev/null", "nowhere/x", "--set", "--json", "--nosuch", "-h", "train", "bce", "lcron", "mlp",
    "a=1", "=", "a.b.c=1", "train.seed=-1", "train.learning_rate=nan", "stages.ranking.quota=0", "relevance.top=0",
    "stages.ranking.hidden=[1000000000000]", "stages.ranking.hidden=[[1]]", "stages.retrieval.quota=1",
    "data.split.seed=99999999999999999999", "train.batch_size=1000000000000", "evaluation.bootstrap=1000000000",
    "objective.name=nosuch", "objective.temperature=-1", "data.path=run", "data.target=nosuch", "relevance=1",
    "stages.x.model=mlp", "objective.name=", "requests=1000000000000", "items=1", "quotas=[1,2]", "features=['']",
    "train.schedule.preset=sequential", "train.start=run", "train.start=log", "evaluation.metrics=['ndcg@0']",
    "label=nosuch", "time_zone=../../etc/passwd", "min_candidates=99", "rows_at_once=1", "separator=xx",
    "a=" + "[" * 3000, "train.device=cuda", "train.precision=bfloat16", "train.prefetch=100000",
)  # fmt: skip
"""Words in place of others; none leads out of the working folder."""

LEFT_OUT = {"--overwrite", "--jobs", "--help"}
"""Options that replace files, as they should, or start processes."""


@cache
def options_of(command: str) -> tuple[str, ...]:
    """Return the options of a command."""
    commands = typer.main.get_command(app).commands
    if command not in commands:
        return ("--help",)
    return tuple(
        o for p in commands[command].params for o in p.opts if o[:1] == "-" and o not in LEFT_OUT
    )


def mutated_words(random: Random, words: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command line with one to three changes."""
    changed = list(words)
    for _ in range(random.choice([1, 1, 2, 3])):
        place = random.randrange(len(changed))
        act = random.choice(
            ["replace", "replace", "replace", "option", "option", "set", "remove", "repeat", "swap"]
        )
        if act == "replace":
            changed[place] = random.choice(WORDS)
        elif act == "option":
            changed += [random.choice(options_of(words[0])), random.choice(WORDS)]
        elif act == "set":
            changed += ["--set", random.choice([w for w in WORDS if "=" in w])]
        elif act == "remove" and len(changed) > 1:
            del changed[place]
        elif act == "repeat":
            changed.insert(place, changed[place])
        else:
            other = random.randrange(len(changed))
            changed[place], changed[other] = changed[other], changed[place]
    return tuple(changed)
