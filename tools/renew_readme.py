"""Run the commands of the README, and replace the outputs and the picture that it shows.

    python tools/renew_readme.py

A comment ``<!-- output of: COMMAND -->`` stands before a block of text: the output of the command,
without the table of costs, which depends on the machine. ``tests/test_readme.py`` compares it.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from funnel_picture import picture_of

ROOT = Path(__file__).resolve().parents[1]
QUOTED = re.compile(r"(<!-- output of: ([^\n]*) -->\n```text\n)(.*?)(```)", re.DOTALL)
"""A quoted output: its comment, the command, the output."""


def commands(text: str, *, serving: bool = False) -> list[str]:
    """Return the commands of all blocks of a page that run the library, in order.

    Args:
        text: the page.
        serving: whether to return those of the blocks that start a server, instead of the others.
    """
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    blocks = [block for block in blocks if ("\ncascaderank serve " in block) == serving]
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("cascaderank ")]


def quoted(output: str) -> str:
    """Return the output of a command as a page quotes it: without trailing blanks and costs."""
    lines = [line.rstrip() for line in output.splitlines()]
    for heading in ("Cost", "Cost and tuning"):
        if heading in lines:
            lines = lines[: lines.index(heading)]
    return "\n".join(lines).strip("\n") + "\n"


def main() -> None:
    """Renew the README and the picture."""
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    wanted = [match[2] for match in QUOTED.finditer(text)]
    outputs = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "configs").symlink_to(ROOT / "configs")
        own = commands(text)
        for command in [*own, *(c for c in wanted if c not in own)]:
            words = [sys.executable, "-m", "cascaderank.cli", *shlex.split(command)[1:]]
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
            done = subprocess.run(
                words, cwd=folder, env=environment, check=True, capture_output=True, text=True
            )
            outputs[command] = quoted(done.stdout)
        picture = picture_of(folder / "runs/funnel_two_stage", folder / "datasets/funnel")
        (ROOT / "docs" / "funnel.svg").write_text(picture, encoding="utf-8")
    text = page.read_text(encoding="utf-8")  # it may have been edited in the meantime
    page.write_text(
        QUOTED.sub(lambda match: match[1] + outputs[match[2]] + match[4], text), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
