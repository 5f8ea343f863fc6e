"""`python -m tests.site build`, and `publish --version 0.2 --latest --into DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.site.build import ZENSICAL, BuildFailed, build
from tests.site.versions import publish


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.site", description=__doc__)
    parser.add_argument(
        "--zensical", type=Path, default=ZENSICAL, help="the generator (default: the one of `make docs`)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the site into build/site")
    version = commands.add_parser("publish", help="build it, and add it to a folder of versions")
    version.add_argument("--version", required=True, help="as 0.2; what is there under this name is replaced")
    version.add_argument("--latest", action="store_true", help="it is what a reader gets by default")
    version.add_argument("--into", type=Path, required=True, help="the folder that is served")
    args = parser.parse_args()
    try:
        site = build(args.zensical)
    except (BuildFailed, OSError) as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    if args.command == "publish":
        publish(site, args.into, args.version, latest=args.latest)
        site = args.into
    print(f"docs: {site}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
