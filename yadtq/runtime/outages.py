"""One log for each outage of a server: a line with the cause, then one every ten seconds, then one when it is over.

Everything that talks to a server repeats its calls while it is away, many times a second. Each failure goes to the
`OutageLog` of that server, and only that writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.shown import shown

if TYPE_CHECKING:
    import logging

    from yadtq.runtime.clock import Clock

__all__ = ["OutageLog"]

#: Between two lines about one outage.
_EVERY_S = 10.0
#: A success ends an outage only this long after the last failure: a read-only server answers some calls and refuses
#: others.
_CALM_S = 2.0


class OutageLog:
    """Of one server, shared by all who call it. Not thread-safe: one event loop.

    what: the server's name in messages, such as "Redis".

    Example:
        outages = OutageLog(logging.getLogger("yadtq.store"), clock, "Redis")
        try:
            answer = await call()
        except StoreUnavailable as error:
            outages.failed(error)
            raise
        if outages.open:
            outages.answered()
    """

    __slots__ = ("_began", "_clock", "_count", "_last", "_log", "_told", "_what", "open")

    def __init__(self, log: logging.Logger, clock: Clock, what: str) -> None:
        self._log = log
        self._clock = clock
        self._what = what
        #: Whether there is an outage now. Check it before `answered`, so that a success costs nothing.
        self.open = False
        self._began = self._last = self._told = 0.0
        self._count = 0

    def failed(self, cause: object) -> None:
        """A call failed. cause: shown as one line; it may be foreign text."""
        now = self._last = self._clock.monotonic()
        self._count += 1
        if not self.open:
            self.open, self._began, self._told, self._count = True, now, now, 1
            self._log.warning("%s is away: %s; calls are repeated until it answers", self._what, shown(cause))
        elif now - self._told >= _EVERY_S:
            self._told = now
            self._log.warning(
                "%s is away for %.0f s now, %d calls failed; the last: %s",
                self._what,
                now - self._began,
                self._count,
                shown(cause),
            )

    def answered(self) -> None:
        """A call succeeded."""
        now = self._clock.monotonic()
        if self.open and now - self._last >= _CALM_S:
            self.open = False
            self._log.warning(
                "%s answers again after %.0f s, %d calls failed", self._what, now - self._began, self._count
            )
