"""`python -m aftershock.systems_under_test.reference node|router|controller --config FILE`: one member of a cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .member_config import ROLES, ConfigError, load


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 stopped on request, 2 bad configuration or start, 70 a bug, 74 the disk failed."""
    parser = argparse.ArgumentParser(prog="python -m aftershock.systems_under_test.reference", description=__doc__)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="JSON; see docs/reference-http-api.md"
    )
    options = parser.parse_args(arguments)
    try:
        config = load(options.config, role=options.role)
    except ConfigError as error:
        print(f"aftershock reference {options.role}: {error}", file=sys.stderr)
        return 2
    # Imported late: a wrong configuration is said at once, and a router never loads the log.
    from . import member

    if options.role == "node":
        from .node import Node

        return member.run(config, Node)
    if options.role == "controller":
        from .controller import Controller

        return member.run(config, Controller)
    from .router import Router

    return member.run(config, Router)


if __name__ == "__main__":
    sys.exit(main())
