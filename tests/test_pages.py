"""The site has every page, and its navigation names no other."""

import importlib.util
import re
from itertools import pairwise
from pathlib import Path

import pytest

from cascaderank.losses import LOSSES
from cascaderank.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]
NAV = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].splitlines()


def test_every_page_is_in_the_navigation_once():
    named = [match[0] for line in NAV if (match := re.search(r"[\w/-]+\.md$", line))]
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(there)


def test_a_page_has_none_below_it():
    """YAML takes a page and the list below it for one long name, and the site is not built."""
    entries = [(len(line) - len(line.lstrip()), line) for line in NAV if line.lstrip()[:2] == "- "]
    for (depth, line), (below, _) in pairwise(entries):
        assert below <= depth or not line.endswith(".md"), line


@pytest.mark.parametrize("name", sorted({*LOSSES, *OBJECTIVES}))
def test_every_loss_and_objective_has_a_card(name):
    """A card is a page whose heading names the method; the navigation test covers the menu."""
    pages = {path: path.read_text().splitlines() for path in (ROOT / "docs/methods").glob("*.md")}
    cards = [lines for lines in pages.values() if name in re.findall(r"\w+", lines[0])]
    assert len(cards) == 1, f"docs/methods/{name}.md must exist, headed '# {name}'"
    assert "## Formula" in cards[0], f"the card of '{name}' needs a section '## Formula'"


def test_roles_of_docstrings_become_links():
    path = ROOT / "tools" / "docs_roles.py"
    spec = importlib.util.spec_from_file_location("docs_roles", path)
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    html = "<p>See :func:<code>~cascaderank.a.b</code> and :meth:<code>C.d</code>, as in::</p>"
    assert hook.on_page_content(html, page=None) == (
        '<p>See <autoref identifier="cascaderank.a.b" optional><code>b</code></autoref>'
        " and <code>C.d</code>, as in:</p>"
    )
    assert hook.on_page_content("<p>.. math::\n  a_i &gt; b</p>") == (
        "<pre><code>a_i &gt; b</code></pre>"
    )
