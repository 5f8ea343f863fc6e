"""Which lines of aiokafka's log a worker shows."""

from __future__ import annotations

import logging

__all__ = ["quieten_aiokafka"]


def quieten_aiokafka() -> None:
    """Warnings and errors only. How often each is written is limited in every process (broker/quiet.py)."""
    logging.getLogger("aiokafka").setLevel(max(logging.WARNING, logging.getLogger().level))
