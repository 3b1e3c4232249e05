"""`python -m net2net_cli`, and what the command `net2net` starts with."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line and end the process; an interrupt while it is still being loaded is no traceback."""
    try:
        from net2net_cli.cli.main import main as run
    except KeyboardInterrupt:
        os._exit(130)
    run()


if __name__ == "__main__":
    main()
