"""A worker that does no work: it speaks the pipe protocol, and misbehaves as the file FAKE_DIR/mode says.

Before its own, it looks for the file FAKE_DIR/<slot id>. Modes: ok, crash (at once), exit0, exit2, deaf (ignores SIGTERM),
mute (runs, then says nothing more), stuck (starts for ever), leaky (leaves a child behind when it dies), dies (runs, then
kills itself). It appends a line per event to FAKE_DIR/log: "event worker pid ppid".

Needs nothing but the standard library, so that it is up in milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

BEAT_S = 0.05


def main() -> int:
    directory = Path(os.environ["FAKE_DIR"])
    slot, worker = os.environ["YADTQ_SLOT"], os.environ["YADTQ_SLOT_WORKER"]
    lifeline, beats = map(int, os.environ["YADTQ_PIPE"].split(","))
    own = directory / slot
    mode = (own if own.exists() else directory / "mode").read_text().strip()

    def note(event: str) -> None:
        descriptor = os.open(directory / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{event} {worker} {os.getpid()} {os.getppid()}\n".encode())
        os.close(descriptor)

    def say(phase: str, seq: int, **more: str) -> None:
        line = json.dumps({"phase": phase, "seq": seq, "loop_lag_s": 0.001, **more})
        with contextlib.suppress(BrokenPipeError):
            os.write(beats, f"{line}\n".encode())

    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGTERM, lambda *_: note("sigterm"))

    note(f"start:{mode}")
    say("starting", 0)
    match mode:
        case "crash":
            return 1
        case "exit0":
            return 0
        case "exit2":
            say("stopped", 1, error="YADTQ_WORKER_CONCURRENCY: no\nnumber")
            return 2
        case "leaky":
            child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
            note(f"child:{child.pid}")

    seq = 0
    while True:
        seq += 1
        if mode != "stuck" and not (mode == "mute" and seq > 1):
            say("running", seq)
        if mode == "dies" and seq > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        ready, _, _ = select.select([wake_read, lifeline], [], [], BEAT_S)
        if lifeline in ready:
            note("orphaned")
            break
        if wake_read in ready:
            os.read(wake_read, 100)
            if mode != "deaf":
                break
    say("draining", seq + 1)
    say("stopped", seq + 2)
    note("end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
