"""Convert the formulas of docstrings to MathML, which browsers render without a script.

Docstrings have formulas in LaTeX: as directives, ``.. math::`` with the formula behind it or in the
indented lines below it, and as roles, ``:math:`q_t```. Markdown would change backslashes and
underscores, so a docstring is converted before it is rendered.
"""

import re
import textwrap
from collections.abc import Callable

_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. math::(?P<first>[^\n]*)(?P<rest>(?:\n(?P=indent) +[^\n]*)*)", re.MULTILINE
)
_INLINE = re.compile(r":math:`([^`]+)`")


def mathml(latex: str, *, display: str) -> str:
    """Return a formula as MathML.

    Args:
        latex: the formula.
        display: ``"block"`` or ``"inline"``.
    """
    from latex2mathml.converter import convert

    return str(convert(latex, display=display))


def with_formulas(docstring: str, convert: Callable[..., str] = mathml) -> str:
    """Return a docstring with its formulas converted.

    Args:
        docstring: text with directives and roles of formulas.
        convert: function that converts a formula, called as :func:`mathml`.
    """

    def block(directive: re.Match[str]) -> str:
        lines = [directive["first"].strip(), textwrap.dedent(directive["rest"]).strip()]
        formula = convert(" ".join(" ".join(lines).split()), display="block")
        return f'{directive["indent"]}<div class="formula">{formula}</div>'

    docstring = _BLOCK.sub(block, docstring)
    return _INLINE.sub(lambda formula: convert(formula[1], display="inline"), docstring)
