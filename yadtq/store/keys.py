"""The whole key schema of Redis.

Every key of an app carries the same hash tag, `{app}`, so any set of them may be used in one script and a batch of a
thousand tasks is one call (docs/decisions/0002-one-hash-slot-per-app.md).

| key                      | type   | what                                                        | lives            |
| ------------------------ | ------ | ----------------------------------------------------------- | ---------------- |
| yadtq:{app}:t:<id>       | hash   | one task, fields below                                      | queued/result ttl |
| yadtq:{app}:r:<id>:<n><s> | string | a large result of the attempt with nonce n, in state s     | result ttl       |
| yadtq:{app}:dead         | hash   | worker id -> ms when its death certificate was written      | entries: an hour |
| yadtq:{app}:data         | hash   | the data set: its name and more, fields below               | for ever         |
| yadtq:{app}:probe        | hash   | written and deleted by a start, to try what the account may | a minute         |
| yadtq:{app}:ctl          | pubsub | "dead <worker>": workers check their parked tasks again     |                  |
| yadtq:{app}:c:<client>   | pubsub | finished tasks that this client waits for                   |                  |

Fields of a task, one letter each because a million tasks hold a million of them:
s state (one letter, see states.py) · a attempt · n nonce · l lease end or retry due, ms on Redis's clock · w the worker
that runs or has run it · k crashes · o deaths from outside, two at most · f failures ·
h home: digest of the queue and the task that the id belongs to ·
r result or error (JSON, or `@n`: in the key of its own) · c channels
of waiters · m mark of the data set under which it was confirmed after Redis went back in time.
A key of a task that can't be read is renamed to `yadtq:{app}:t:<id>{damaged}`, and kept for queued ttl.

Fields of the data set (data_set.lua): i name · b count of reads, increased once a second at most · t ms of the last
one · m mark, if Redis went back in time since the last total loss.
"""

from __future__ import annotations

__all__ = ["Keys"]


class Keys:
    """Key builders of one app."""

    __slots__ = ("control", "data_set", "dead", "probe", "result", "task", "waiter")

    def __init__(self, app: str) -> None:
        prefix = f"yadtq:{{{app}}}:"
        #: prefixes, to be followed by an id
        self.task = prefix + "t:"
        self.result = prefix + "r:"
        self.waiter = prefix + "c:"
        #: whole keys
        self.dead = prefix + "dead"
        self.data_set = prefix + "data"
        self.probe = prefix + "probe"
        self.control = prefix + "ctl"
