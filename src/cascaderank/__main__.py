"""``python -m cascaderank``: the same as ``cascaderank``."""

from cascaderank.cli import main

main()
