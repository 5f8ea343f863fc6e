"""`yadtq ...` and `python -m yadtq ...`."""

from __future__ import annotations

import logging
import sys

from yadtq.runtime.logs import log_to_stderr

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 after an error, 2 for wrong arguments or settings, 130 after Ctrl-C."""
    try:
        from yadtq.cli.root import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        print(f"yadtq: {missing} is not installed: pip install 'yadtq[cli]'", file=sys.stderr)
        return 2
    log_to_stderr(logging.WARNING, brief=True)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own errors say it, once
    logging.getLogger("yadtq.store").setLevel(logging.ERROR)
    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
