"""`net2net schema`."""

from __future__ import annotations

from net2net_cli.cli import options as o

EXAMPLES = o.examples("net2net schema > net2net-spec.schema.json")


def schema() -> None:
    """Print the JSON Schema of specs."""
    import json

    from net2net_cli.architecture import spec_schema
    from net2net_cli.cli.printing import print_raw

    print_raw(json.dumps(spec_schema.schema(), indent=2, ensure_ascii=False) + "\n")
