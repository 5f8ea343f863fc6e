"""`python -m yadtq.supervisor module:app --workers N`: keeps N worker processes alive.

SIGTERM or SIGINT: workers drain; again: they cancel running tasks; a third time: they are killed. SIGHUP: restart
them one after another. SIGTTIN, SIGTTOU: one worker more, one less. Exit status: 0 asked to end, 1 every worker
crashed too often, 2 wrong settings or arguments, 69 Kafka or Redis could not be reached at the start.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from yadtq.app import load_app, load_servers
from yadtq.errors import BrokerUnavailable, ConfigError, StoreUnavailable, YadtqError
from yadtq.runtime.logs import log_to_stderr
from yadtq.settings import SupervisorSettings, WorkerSettings
from yadtq.supervisor.assembly import assemble, connected
from yadtq.supervisor.events import EventPipe
from yadtq.supervisor.process import Spawner
from yadtq.supervisor.slots import SlotLocks
from yadtq.supervisor.supervisor import Intent
from yadtq.wire.exits import FAILED, MISCONFIGURED, UNREACHABLE
from yadtq.wire.inherited import handed_on

if TYPE_CHECKING:
    from yadtq.app import Yadtq
    from yadtq.supervisor.supervisor import Supervisor

__all__ = ["main"]

_SIGNALS = {
    signal.SIGTERM: Intent.STOP,
    signal.SIGINT: Intent.STOP,
    signal.SIGHUP: Intent.RESTART,
    signal.SIGTTIN: Intent.MORE,
    signal.SIGTTOU: Intent.FEWER,
}


def parse(argv: list[str] | None = None, program: str = "python -m yadtq.supervisor") -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=program, description="Keep worker processes alive.")
    parser.add_argument(
        "app",
        nargs="?",
        default=os.environ.get("YADTQ_APP", "yadtq.examples:app"),
        help="module:app (default: YADTQ_APP or %(default)s)",
    )
    parser.add_argument("--workers", type=int, help="worker processes (default: 2)")
    parser.add_argument("--concurrency", type=int, help="tasks running at once in each worker (default: 100)")
    parser.add_argument("--queues", help="comma-separated (default: those that the app's tasks name)")
    parser.add_argument("--kafka", help="bootstrap servers (default: YADTQ_KAFKA or localhost:9092)")
    parser.add_argument(
        "--redis",
        help="URL; keep one with a password in YADTQ_REDIS instead",
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    parser.add_argument("--events-fd", type=int, help="file descriptor that gets each event as a line of JSON")
    return parser.parse_args(argv)


def worker_command(arguments: argparse.Namespace) -> list[str]:
    """The same options for the workers, which read the others from the environment themselves."""
    command = [sys.executable, "-m", "yadtq.worker", arguments.app]
    for name in ("concurrency", "queues", "log_level"):
        if (value := getattr(arguments, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    return command


def obey_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number, intent in _SIGNALS.items():
        loop.add_signal_handler(number, supervisor.ask, intent)


async def supervise(app: Yadtq, own: SupervisorSettings, queues: tuple[str, ...], spawn: Spawner) -> int:
    """Reach both servers, and then run until told to end."""
    outside = app.outside()
    supervisor, producer = assemble(
        app.settings,
        own,
        outside,
        spawn=spawn,
        slots=SlotLocks(app.name),
        starts_at_once=max(4, 2 * (os.cpu_count() or 1)),
    )
    async with connected(outside, producer, queues):
        obey_signals(supervisor)
        return await supervisor.run()


def _write_events_to(fd: int) -> None:
    try:
        logging.getLogger("yadtq.supervisor").addHandler(EventPipe(fd))
    except OSError as error:
        raise ConfigError(f"--events-fd {fd}: {error.strerror}") from None


def main(argv: list[str] | None = None, program: str = "python -m yadtq.supervisor") -> int:
    arguments = parse(argv, program)
    log_to_stderr(arguments.log_level)
    logging.getLogger("aiokafka").setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        if arguments.events_fd is not None:
            _write_events_to(arguments.events_fd)
        app = load_app(arguments.app)
        app.configure(**handed_on(os.environ, kafka=arguments.kafka, redis=arguments.redis))
        own = SupervisorSettings.load(workers=arguments.workers)
        options = WorkerSettings.load(concurrency=arguments.concurrency, queues=arguments.queues)
        if own.grace_s <= options.grace_s:
            raise ConfigError(
                f"YADTQ_SUPERVISOR_GRACE_S ({own.grace_s:g}) must be above YADTQ_WORKER_GRACE_S ({options.grace_s:g}): "
                "a worker needs its whole grace and a moment more to give back what it could not finish"
            )
        spawn = Spawner(worker_command(arguments))
        load_servers()
        return asyncio.run(supervise(app, own, options.queues or app.queues, spawn))
    except ConfigError as error:
        print(f"yadtq: {error}", file=sys.stderr)
        return MISCONFIGURED
    except (BrokerUnavailable, StoreUnavailable) as error:
        print(f"yadtq: {error}", file=sys.stderr)
        return UNREACHABLE
    except YadtqError as error:
        print(f"yadtq: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
