"""Progress bars: one line each, in which bar, count and remaining time are whole."""

import io
import re

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cascaderank.cli.shell import Bars, emit, notify_wrapped

NOTE = "loss 0.4211  recall/retrieval 0.8  recall/pre_ranking 0.7  recall/ranking 0.6 [red]"


def drawn(width, note=NOTE):
    """Return the lines of two nested bars, as they are drawn last."""
    console = Console(
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
    )
    with Bars(console) as bars:
        bars.start("comparing", 1_234)
        bars.advance(17, "lcron, learning_rate=0.01, fold 3, seed 2: 0.8123")
        bars.start("epoch 10/100", 12_345)
        bars.advance(6_789, note)
        bars._bars.refresh()
        text = console.file.getvalue()
    last = text.rpartition("comparing")
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", last[1] + last[2]).splitlines()[:2]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_bar_count_and_remaining_time_are_whole_and_the_note_is_shortened(width):
    outer, inner = drawn(width)
    for line, what, count in (
        (outer, "comparing ", "17/1234"),
        (inner, "epoch 10/100", "6789/12345"),
    ):
        assert len(line) <= width
        assert line.startswith(what)
        assert len(re.search("[━╸╺ ]{20}", line)[0]) == 20
        assert count in line
        assert re.search(r" (--:--|\d+:\d\d)", line)
    assert ("loss 0.4211" in inner) is (width >= 80)
    assert ("…" in inner) is (width < 200)
    assert (NOTE in inner) is (width == 200)


def test_without_a_terminal_nothing_is_drawn():
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    with Bars(console) as bars:
        bars.start("evaluating", 10)
        bars.advance(10, NOTE)
        bars.stop("done")
    assert console.file.getvalue() == ""


def test_long_messages_are_wrapped_and_indented(capsys):
    notify_wrapped("Lower train.learning_rate, " * 9, "warning: ")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("warning: Lower train.learning_rate,")
    assert all(line[:9] == " " * 9 and line[9] != " " for line in lines[1:])


def test_a_result_has_no_control_characters(capsys):
    table = Table("id")
    table.add_row(escape("a\x1b[31m\x07b"))
    emit(table, Text("request \x1b[2J7\nsecond line"))
    out = capsys.readouterr().out
    assert "a\\x1b[31mb" in out
    assert out.endswith("request \\x1b[2J7\nsecond line\n")
