"""A Kafka-compatible broker for development and tests, as one static binary; see `yadtq_devbroker.control` for faults.

Data and committed offsets survive kill -9 (with `--data`). One thing does not: the log start that DeleteRecords sets is
written at a clean end only, so records that were deleted may be back after a crash.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["binary"]


def binary() -> Path:
    """The broker's executable. Raises FileNotFoundError in a source tree that was never built."""
    path = Path(__file__).parent / "_bin" / "yadtq-devbroker"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: install this package with pip, which compiles it")
    return path
