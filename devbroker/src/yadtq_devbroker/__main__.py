"""`yadtq-devbroker` and `python -m yadtq_devbroker`: become the binary, so that signals and stdin are its own."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from yadtq_devbroker import binary


def main() -> NoReturn:
    path = str(binary())
    os.execv(path, [path, *sys.argv[1:]])


if __name__ == "__main__":
    main()
