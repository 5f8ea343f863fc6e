"""`python -m yadtq.worker module:app`: one worker process.

Exit status: 0 drained, 1 a part failed, 2 wrong settings or arguments, 69 Kafka or Redis could not be reached or the
app's lifespan could not be opened, 70 the event loop was blocked for too long.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from yadtq.app import load_app, load_servers
from yadtq.errors import BrokerUnavailable, ConfigError, LifespanFailed, StoreUnavailable, YadtqError
from yadtq.execution.tasklog import mark_records
from yadtq.runtime.logs import log_to_stderr
from yadtq.settings import WorkerSettings
from yadtq.wire import exits
from yadtq.wire.inherited import Inherited, handed_on
from yadtq.worker.logs import quieten_aiokafka
from yadtq.worker.parent import report_to_supervisor
from yadtq.worker.process import leave, protect_from_forks, run_to_its_end
from yadtq.worker.worker import Worker, make_worker

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("yadtq.worker")

_SIGNALS_S = 1.0


def parse(argv: list[str] | None = None, program: str = "python -m yadtq.worker") -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=program, description="Run tasks of an app.")
    parser.add_argument(
        "app",
        nargs="?",
        default=os.environ.get("YADTQ_APP", "yadtq.examples:app"),
        help="module:app (default: YADTQ_APP or %(default)s)",
    )
    parser.add_argument("--concurrency", type=int, help="tasks running at once (default: 100)")
    parser.add_argument("--queues", help="comma-separated (default: those that the app's tasks name)")
    parser.add_argument("--kafka", help="bootstrap servers (default: YADTQ_KAFKA or localhost:9092)")
    parser.add_argument("--redis", help="URL (default: YADTQ_REDIS or redis://localhost:6379/0)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args(argv)


async def serve(worker: Worker) -> None:
    """Run until drained. SIGTERM or SIGINT: drain; again: cancel running tasks; a third time: end at once."""
    loop = asyncio.get_running_loop()
    signals = 0

    def handle() -> None:
        nonlocal signals
        signals += 1
        if signals > 2:
            log.critical("third signal: ending at once")
            os._exit(1)
        worker.drain()

    keeping = loop.create_task(_keep_handling(handle), name="yadtq-signals")
    try:
        await worker.run()
    finally:
        keeping.cancel()
        if left := worker.parts.executor.unstoppable:
            # asyncio would wait for such tasks, and Python for such threads, without a limit.
            log.critical("tasks that don't end are cut off: %s", left, exc_info=sys.exc_info()[0] is not None)
            logging.shutdown()
            os._exit(0 if sys.exc_info()[0] is None else 1)


async def _keep_handling(handle: Callable[[], None]) -> None:
    """Again and again: a task, or a library that it uses, may have set handlers of its own, and the worker would never
    drain.
    """
    loop = asyncio.get_running_loop()
    while True:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, handle)
        await asyncio.sleep(_SIGNALS_S)


def calm_the_collector() -> None:
    """Fewer and shorter rounds of Python's garbage collector: a task costs 2.5 µs less, of 18.

    Every task creates a few dozen objects that reference counting frees long before the collector would. Everything
    imported so far lives as long as the process, so no round needs to visit it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """None: asyncio's own. Raises `ConfigError` if uvloop is asked for and not installed."""
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        raise ConfigError("YADTQ_WORKER_LOOP=uvloop needs it installed: pip install 'yadtq[fast]'") from None
    return uvloop.new_event_loop


def main(argv: list[str] | None = None, program: str = "python -m yadtq.worker") -> int:
    arguments = parse(argv, program)
    log_to_stderr(arguments.log_level)
    logging.raiseExceptions = False  # with stderr closed by a task, to report that a log failed would raise
    mark_records()
    quieten_aiokafka()
    inherited = Inherited.take(os.environ)
    # A task's child process must not keep the slot after our death, be it started or forked.
    locks = [int(inherited.lock)] if inherited.lock.isdigit() else []
    for lock in locks:
        os.set_inheritable(lock, False)
    try:
        app = load_app(arguments.app)
        app.configure(**handed_on(os.environ, kafka=arguments.kafka, redis=arguments.redis))
        options = WorkerSettings.load(concurrency=arguments.concurrency, queues=arguments.queues)

        async def start() -> None:
            await serve(make_worker(app, options, inherited, app_path=arguments.app))

        load_servers()
        calm_the_collector()
        protect_from_forks(*locks)
        run_to_its_end(start, loop_factory(options.loop))
    except ConfigError as error:
        print(f"yadtq: {error}", file=sys.stderr)
        report_to_supervisor(inherited.pipe, str(error))
        return exits.MISCONFIGURED
    except (BrokerUnavailable, StoreUnavailable) as error:
        print(f"yadtq: {error}", file=sys.stderr)
        return exits.UNREACHABLE
    except LifespanFailed as error:
        print(f"yadtq: {error}", file=sys.stderr)
        return exits.FAILED if error.opened else exits.UNREACHABLE
    except YadtqError as error:
        print(f"yadtq: {error}", file=sys.stderr)
        return exits.FAILED
    return exits.DRAINED


if __name__ == "__main__":
    leave(main())
