"""Become the given command, to be killed by the kernel when the thread that started it dies.

    python -I -S guarded_exec.py PARENT_PID COMMAND...

A wrapper, not a `preexec_fn`: that one runs Python between fork and exec of a process with threads, and may deadlock.
The process id stays the same, so signals reach the command itself. Outside Linux it only executes the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # The parent may have died before the line above, and then no signal will ever come.
        if os.getppid() != parent:
            sys.exit(f"parent {parent} is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
