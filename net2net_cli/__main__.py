"""`python -m net2net_cli`."""

from __future__ import annotations

from net2net_cli.cli.main import main

main()
