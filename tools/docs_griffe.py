"""Extension of griffe, which reads the docstrings for mkdocstrings: formulas become MathML."""

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))  # griffe loads this file by its path

from docs_formulas import with_formulas


class Formulas(griffe.Extension):
    """Converts the formulas of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = with_formulas(obj.docstring.value)
