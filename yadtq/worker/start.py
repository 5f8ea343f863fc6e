"""What a worker says when it starts, and which queues it consumes."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from yadtq.shown import shown, shown_address

if TYPE_CHECKING:
    from yadtq.app import Yadtq
    from yadtq.worker.assembly import Given

__all__ = ["say_start", "with_queues"]

log = logging.getLogger("yadtq.worker")

_NAMED = 20


def with_queues(given: Given) -> Given:
    """Where none are set, it consumes all that the app's tasks name."""
    if given.options.queues:
        return given
    queues = given.app.queues
    options = given.options.model_copy(update={"queues": queues})
    return replace(given, options=options, identity=replace(given.identity, queues=queues))


def say_start(given: Given) -> None:
    app, settings, options = given.app, given.app.settings, given.options
    names = sorted(task.name for task in app.registry)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = f": {', '.join(map(shown, names[:_NAMED]))}{more}" if names else ""
    log.info("yadtq %s, app %s, %d tasks%s", _VERSION, app.name, len(names), listed)
    log.info(
        "kafka %s, redis %s, concurrency %d, threads %d",
        shown_address(settings.kafka),
        shown_address(settings.redis),
        options.concurrency,
        options.threads,
    )
    _warn(app, options.queues)


def _warn(app: Yadtq, queues: tuple[str, ...]) -> None:
    if not len(app.registry):
        log.warning("app %s has no tasks: import the modules that define them, or name them in include=[...]", app.name)
    left: dict[str, list[str]] = {}
    for task in app.registry:
        if task.queue not in queues:
            left.setdefault(task.queue, []).append(task.name)
    for queue, names in sorted(left.items()):
        log.warning("this worker does not consume queue %s, of tasks %s", queue, ", ".join(map(shown, sorted(names))))


def _version() -> str:
    try:
        return version("yadtq")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"


#: Read when the process starts: it looks at files, which may not be done in the event loop.
_VERSION = _version()
