"""Style of the pictures of the commands, and figures as the bytes of a file."""

import io
from typing import Any, Final, Literal

STYLE: Final = {
    "svg.hashsalt": "cascaderank",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}
"""Settings of matplotlib; equal figures have equal bytes."""


def figure_bytes(figure: Any, kind: Literal["png", "svg"] = "png") -> bytes:
    """Return a figure of matplotlib as the contents of a file, without version and date.

    Args:
        figure: the figure; drawn under :data:`STYLE`, or another style that is still active.
        kind: format of the file.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> figure_bytes(Figure(figsize=(1, 1)))[1:4]
        b'PNG'
    """
    content = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(content, format=kind, dpi=160, metadata=metadata)
    return content.getvalue()
