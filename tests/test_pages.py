"""The site has every page, and its navigation names no other."""

import ast
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


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_roles_of_docstrings_become_links():
    html = "<p>See :func:<code>~cascaderank.a.b</code> and :meth:<code>C.d</code>, as in::</p>"
    assert tool("docs_roles").on_page_content(html, page=None) == (
        '<p>See <autoref identifier="cascaderank.a.b" optional><code>b</code></autoref>'
        " and <code>C.d</code>, as in:</p>"
    )


def test_formulas_of_docstrings_are_converted_whole():
    docstring = r"""Return x.

    .. math::
        x = \frac{a}{b}, \qquad
        y = c_1

    With :math:`c_1` in :func:`f`:

    .. math:: z = 1 +
              2

    Args:
        a: number."""

    def convert(latex, *, display):
        return f"<{display}>{latex}</{display}>"

    assert (
        tool("docs_formulas").with_formulas(docstring, convert)
        == r"""Return x.

    <div class="formula"><block>x = \frac{a}{b}, \qquad y = c_1</block></div>

    With <inline>c_1</inline> in :func:`f`:

    <div class="formula"><block>z = 1 + 2</block></div>

    Args:
        a: number."""
    )


def test_every_formula_of_the_library_can_be_converted():
    pytest.importorskip("latex2mathml", reason="part of the extra `docs`")
    with_formulas, formulas = tool("docs_formulas").with_formulas, 0
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                docstring = ast.get_docstring(node) or ""
                converted = with_formulas(docstring)
                assert "math:" not in converted, path
                formulas += converted.count("<math ")
    assert formulas > 80


def test_pages_of_the_site_load_nothing_from_other_hosts():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert re.search(r"^  font: false", settings, flags=re.MULTILINE)
    assert "extra_javascript" not in settings
    assert "http" not in (ROOT / "docs" / "site.css").read_text()
