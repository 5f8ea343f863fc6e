"""RQ."""

from __future__ import annotations

import time

import recorder


def noop(i: int) -> int:
    recorder.hit()
    return i


def sleep50(i: int) -> int:
    recorder.hit()
    time.sleep(0.05)
    return i
