"""`python -m tests.bench.child FUNCTION '{"n": 100, ...}'`: one measured client or floor; prints its result as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from tests.bench import client_side, floors
from tests.bench.app import app


def main() -> None:
    what, words = sys.argv[1], json.loads(sys.argv[2])
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a new topic's leader is often asked for too early
    app.configure(kafka=words["kafka"], redis=words["redis"])
    function = {**client_side.FUNCTIONS, **floors.FUNCTIONS}[what]
    print(json.dumps(asyncio.run(function(words))))


if __name__ == "__main__":
    main()
