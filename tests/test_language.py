"""Words that the documentation avoids: the field has a term for each, or they personify data."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BANNED = {
    r"told|tells?\b|telling": "reports, states; the message (data and code do not tell)",
    r"knows?\b|known to": "has, contains, supports",
    r"says?\b|said": "specifies, states",
    r"heaps?": "pooled candidates; cluster of ties",
    r"lacks?\b": "has no; 1 - NDCG",
    r"learnt": "trained, fitted, learned",
    r"warmth": "temperature",
    r"judg(?:e|ed|es|ing)\b": "evaluate",
    r"asked for|asks? for": "requested, required",
    r"so many\b": "a number: n, k, up to n",
    r"(?<!users )(?<!people )(?<!those )(?<!anyone )who\b": "which candidates, which stage",
    r"whoever|whomever|whom\b": "the caller, the user",
    r"nobody|everybody|somebody": "no candidate, all candidates",
    r"(?:told|tells?|tell) apart": "distinguish, identify",
    r"at hand": "available",
    r"hears?\b|heard": "receives",
    r"wants?\b|wanted": "requires, requested",
    r"marks\b": "relevance, targets",
    r"goes? on from|go on where": "resumes",
    r"is to be\b|are to be\b": "must be, is",
    r"stands? still": "is frozen",
    r"as it stands|how it stands": "current",
    r"has not\b|have not\b": "does not have",
}
"""Pattern to what to write instead."""

ALLOWED = (
    r"the user (?:asked for|wants)",
    r"\bno one who\b",
    r"\.tell\(\)",
    r'"told"',  # a key on disk
)
"""Phrases about people, which are fine, and names of APIs and files."""

FILES = sorted(
    path
    for folder, pattern in (("src", "*.py"), ("docs", "*.md"), ("configs", "*.toml"), (".", "*.md"))
    for path in ((ROOT / folder).rglob(pattern) if folder != "." else ROOT.glob(pattern))
    # Dated entries stay as they were written, and old import paths are what they were.
    if path.name not in ("log.md", "CHANGELOG.md", "_moved.py")
)


def violations(text: str) -> list[str]:
    for phrase in ALLOWED:
        text = re.sub(phrase, "", text, flags=re.IGNORECASE)
    return [
        f"line {number}: '{match[0]}'; write: {instead}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, instead in BANNED.items()
        for match in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", line, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_documentation_uses_the_terms_of_the_field(path):
    found = violations(path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_the_check_finds_a_banned_word():
    assert violations("the stages that are told of it")
    assert not violations("the users who pay")
