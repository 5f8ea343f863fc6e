"""What the machine is, and what a process has used of it: read from /proc, at no cost to the process measured."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_PACKAGES = ("aiokafka", "redis", "hiredis", "pydantic", "uvloop")


def cpu_s(pid: int) -> float:
    """CPU time of a process, all its threads. In nanoseconds from the scheduler; `stat` counts in ticks of 10 ms."""
    total = 0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return total / 1e9


def rss_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


def load() -> float:
    return os.getloadavg()[0]


def describe() -> dict[str, str]:
    """The machine line and the versions that a number means nothing without."""
    memory = psutil.virtual_memory().total / 2**30
    packages = []
    for name in _PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    return {
        "machine": f"{os.cpu_count()} cores ({_cpu_model()}), {memory:.0f} GiB, {platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "packages": ", ".join(packages),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
