"""Small runs for reports, and a parser of report pages."""

from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import polars as pl

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings
from cascaderank.training.train_run import train_run

HOSTILE = "<img src=x onerror=alert(1)>"
"""Name of a feature, of a data set and of a value that a page must escape."""

VOID = {"meta", "link", "br", "img", "hr", "input"}
SVG_ALONE = {"path", "use", "rect", "image", "line", "circle"}


def write_log(folder, *, requests=400, seed=0, weak=True, shift=0.0):
    """Write a log whose labels follow the price, except for requests from FR if weak.

    On the last of its four days, prices are higher by ``shift``, and half of the categories are new.
    """
    rng = np.random.default_rng(seed)
    countries = rng.choice(["DE", "FR", "IT", "ES"], requests)
    price = rng.normal(size=(requests, 30))
    known = np.where((countries == "FR")[:, None] & weak, rng.normal(size=price.shape), price)
    noise = rng.normal(size=price.shape)
    schema = Schema(
        features=(
            {"name": "country", "role": "request", "kind": "categorical"},
            {"name": "price", "role": "item", "kind": "numeric"},
            {"name": "late", "role": "item", "kind": "numeric"},
            {"name": HOSTILE, "role": "item", "kind": "categorical"},
        )
    )
    order = price.argsort(1).argsort(1)
    last = np.arange(requests) >= 3 * requests // 4
    known = known + shift * last[:, None]
    categories = rng.choice([HOSTILE, "plain"], price.shape).astype(object)
    categories[last, : 15 * bool(shift)] = "new"
    frame = pl.DataFrame(
        {
            "request_id": [f"{HOSTILE}{i}" for i in range(requests)],
            "timestamp": [
                datetime(2024, 1, 1 + 4 * i // requests, tzinfo=UTC) for i in range(requests)
            ],
            "country": countries.tolist(),
            "price": known.tolist(),
            "late": (price + 0.6 * noise).tolist(),
            HOSTILE: categories.tolist(),
            "label": (order >= 26).astype(float).tolist(),
        }
    )
    with RequestLogWriter(folder, name=f"shop {HOSTILE}", schema=schema) as writer:
        writer.write(frame)
    return folder


def small_run(log, folder, *, stages=2, model="linear", objective="lcron", **changes):
    """Train a run of one to three stages on :func:`write_log`."""
    names = [["ranking"], ["retrieval", "ranking"], ["retrieval", "pre<b>ranking", "ranking"]]
    names, quotas = names[stages - 1], [15, 8, 5][-stages:]
    features = {"retrieval": ["price"]}
    settings = check_settings(
        {
            "data": {
                "path": str(log),
                "split": {"by": "request", "seed": 1, "validation": 0.1, "test": 0.5},
                "target": "label",
            },
            "relevance": {"threshold": 1},
            "stages": {
                name: {
                    "model": model,
                    "quota": quota,
                    "features": features.get(name, ["price", "late"]),
                }
                for name, quota in zip(names, quotas, strict=True)
            },
            "objective": {"name": objective},
            "train": {"epochs": 2, "batch_size": 32, "learning_rate": 0.1},
            "evaluation": {"bootstrap": 50},
        }
    ).changed({k.replace("__", "."): v for k, v in changes.items()})
    train_run(settings, folder)
    return folder


class Page(HTMLParser):
    """Tables, text, ids and addresses of a page; complains of tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.text, self.addresses, self.headings = {}, [], [], []
        self.ids, self.tags, self.attributes = Counter(), Counter(), []
        self._open, self._cell, self._rows, self._caption = [], None, None, None
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.addresses += [v for k, v in attrs if k in ("href", "src", "xlink:href", "action")]
        if "id" in given:
            self.ids[given["id"]] += 1
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td", "caption"):
            self._cell = []
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in ("th", "td"):
            self._rows[-1].append("".join(self._cell))
        if tag == "caption":
            self._caption = "".join(self._cell)
        if tag == "table":
            self.tables.setdefault(self._caption, self._rows)

    def handle_data(self, data):
        self.text.append(data)
        if self._cell is not None:
            self._cell.append(data)

    def table(self, caption):
        """Return the rows of a table as dicts by heading; repeated headings have a number."""
        head, *rows = self.tables[caption]
        seen, names = Counter(), []
        for name in head:
            seen[name] += 1
            names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
        return [dict(zip(names, row, strict=True)) for row in rows]


def number(value, *, sign="", places=3):
    """Format a share independently of the code under test."""
    return (
        f"{value:{sign}.{places}f}".replace("0.", ".", 1)
        if abs(value) < 1
        else f"{value:{sign}.{places}f}"
    )
