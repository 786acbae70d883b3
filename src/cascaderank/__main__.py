"""``python -m cascaderank``: the command line, ``cascaderank``."""

import signal
import sys


def main() -> None:
    """Run the command line; an interrupt while it is loaded or ends has no traceback."""
    try:
        from cascaderank.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process only ends after this


if __name__ == "__main__":
    main()
