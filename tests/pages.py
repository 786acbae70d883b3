"""Runs the code and the commands of a page of the documentation, in the order of the page."""

import contextlib
import io
import re
from pathlib import Path

from tests.command_line import cascaderank

ROOT = Path(__file__).parents[1]


def run_page(page, folder, toml=None):
    """Run the Python blocks and the `cascaderank` commands of a page in a folder; return output.

    A block of TOML is saved under the name `toml`.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    names, output = {}, io.StringIO()
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language == "python":
            with contextlib.chdir(folder), contextlib.redirect_stdout(output):
                exec(compile(block, page, "exec"), names)
        elif language == "toml":
            (folder / toml).write_text(block)
        elif language == "bash":
            for command in commands(block):
                done = cascaderank(*command[1:], cwd=folder)
                assert done.returncode == 0, (command, done.stderr)
                output.write(done.stdout)
    return output.getvalue()


def commands(block):
    """Return the words of each `cascaderank` command of a block."""
    import shlex

    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line))[:1] == ["cascaderank"]]
