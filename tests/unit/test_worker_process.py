"""A worker process and what tasks do to it: stray SystemExit, forked children, what is left at the end."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def run(body: str, *, timeout: float = 30, last: str = "print('ended')") -> subprocess.CompletedProcess[str]:
    program = (
        textwrap.dedent(
            """
            import asyncio, logging, multiprocessing, os, signal, sys, threading, time
            from yadtq.worker import process
            from yadtq.worker.process import leave, protect_from_forks, run_to_its_end
            process._LEFTOVERS_S = 1.0
            logging.basicConfig()
            """
        )
        + textwrap.dedent(body)
        + f"\nrun_to_its_end(main, None)\n{last}\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout, check=False)


def test_a_system_exit_in_a_child_of_a_task_ends_that_task_and_nothing_else() -> None:
    ended = run(
        """
        async def leave():
            raise SystemExit(3)
        async def task():
            try:
                await asyncio.gather(leave(), asyncio.sleep(0.1))
            except BaseException as error:
                print("the task ended with", repr(error))
        async def main():
            running = asyncio.ensure_future(task())
            await asyncio.sleep(0.2)
            await running
            print("neighbours finished")
        """
    )
    assert ended.returncode == 0, ended.stderr
    assert "the task ended with SystemExit(3)" in ended.stdout
    assert "neighbours finished\nended" in ended.stdout
    assert "out of the event loop" in ended.stderr


def test_a_signal_to_a_forked_child_is_the_childs() -> None:
    ended = run(
        """
        async def main():
            protect_from_forks()
            heard = []
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.append, 1)
            fork = multiprocessing.get_context("fork")
            child = fork.Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()  # before it has done anything
            await asyncio.to_thread(child.join, 5)
            print("child", child.exitcode, "parent heard", heard)
        """
    )
    assert "child -15 parent heard []" in ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("left", "name"),
    [
        ("threading.Thread(target=time.sleep, args=(60,), name='forgotten').start()", "thread forgotten"),
        ("asyncio.ensure_future(stubborn()).set_name('stray')", "asyncio task stray"),
        ("asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)", "thread asyncio_0"),
    ],
)
def test_what_hangs_at_the_end_is_named_and_left(left: str, name: str) -> None:
    ended = run(
        f"""
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        async def main():
            {left}
            await asyncio.sleep(0.1)
        """
    )
    assert ended.returncode == 0, ended.stderr
    assert name in ended.stderr


def test_an_idle_pool_is_no_leftover() -> None:
    ended = run(
        """
        async def main():
            await asyncio.to_thread(time.sleep, 0)
        """
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "ended", "")


def test_an_error_of_the_worker_comes_out() -> None:
    ended = run(
        """
        async def main():
            raise ValueError("mine")
        """
    )
    assert ended.returncode == 1
    assert "ValueError: mine" in ended.stderr


def test_the_exit_status_is_the_workers_even_if_stdout_is_closed() -> None:
    ended = run(
        """
        async def main():
            print("something", end="")
            os.close(1)
        import atexit
        atexit.register(print, "late", file=sys.stderr)
        """,
        last="leave(3)",
    )
    assert (ended.returncode, ended.stderr) == (3, "late\n")


def test_a_worker_that_hangs_in_its_own_exit_keeps_its_status() -> None:
    ended = run(
        """
        async def main():
            import atexit
            atexit.register(time.sleep, 60)
        """,
        last="leave(69)",
    )
    assert ended.returncode == 69
    assert "atexit" in ended.stderr
