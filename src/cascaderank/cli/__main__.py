"""``python -m cascaderank.cli``: the same as ``cascaderank``."""

from cascaderank.cli import main

main()
