"""Hook of mkdocs: convert the reStructuredText of docstrings that Markdown does not render.

Docstrings use Sphinx roles, such as ``:func:`~cascaderank.evaluation.evaluate```, and ``::`` before
literal blocks. The hook replaces them in the HTML of a page: roles by links (by code, if the target
has no page). ``docs_formulas.py`` converts formulas.
"""

import re

_ROLE = re.compile(r":(?:func|class|meth|data|mod|attr|exc):<code>(~?)([\w.]+)</code>")


def on_page_content(html: str, **_: object) -> str:
    """Return the HTML of a page without roles and ``::``."""
    html = _ROLE.sub(_link, html)
    return html.replace("<p>::</p>", "").replace("::</p>", ":</p>")


def _link(role: re.Match[str]) -> str:
    """Return the link of a role; ``~`` shortens the text to the last part of the name."""
    name = role[2]
    text = name.rpartition(".")[2] if role[1] else name
    code = f"<code>{text}</code>"
    if not name.startswith("cascaderank."):
        return code
    return f'<autoref identifier="{name}" optional>{code}</autoref>'
