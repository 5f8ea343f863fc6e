"""The jars of Apache Kafka, fetched once by Maven into a cache that all test runs share.

Invariant: a cache with the marker file is complete. It is written last, under the lock, so neither a second test run
nor one killed in the middle leaves a half-filled class path behind.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.local_server import Availability

if TYPE_CHECKING:
    from collections.abc import Iterator

POM = Path(__file__).with_name("kafka") / "pom.xml"
REPOSITORY = Path(__file__).resolve().parents[2]
LEAST_JAVA = 17
FETCH_TIMEOUT_S = 600

# Why Maven could not bring the jars in this process: then Kafka is not available, and nobody waits for Maven again.
_failures: list[str] = []


class FetchFailed(RuntimeError):
    """Maven could not bring the jars, for instance for want of a network."""


def cache_dir() -> Path:
    return Path(os.environ.get("YADTQ_TEST_CACHE") or REPOSITORY / ".cache")


def version() -> str:
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)<", POM.read_text())
    assert found, f"no Kafka version in {POM}"
    return found[1]


def available() -> Availability:
    """Java, and either the jars or a Maven to fetch them."""
    if not (java := _java_version()):
        return Availability(False, "no java on the PATH")
    if java < LEAST_JAVA:
        return Availability(False, f"Java {java}, but Kafka {version()} needs {LEAST_JAVA}")
    if _failures and not _complete():
        return Availability(False, _failures[-1])
    if not _complete() and not shutil.which("mvn"):
        return Availability(False, "no mvn on the PATH to fetch Kafka with")
    return Availability(True, f"Apache Kafka {version()} on Java {java}")


def fetch() -> Path:
    """The folder with the jars; brings them if they are not there yet."""
    if not _complete():
        with _locked():
            if not _complete():  # another run may have brought them while this one waited
                try:
                    _copy_dependencies()
                except FetchFailed as failure:
                    _failures.append(str(failure))
                    raise
    return _home() / "lib"


def _home() -> Path:
    # Named by the pom's content, so that a new version is never started from the jars of the old one.
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return cache_dir() / f"kafka-{version()}-{digest}"


def _complete() -> bool:
    return (_home() / "complete").exists()


@contextmanager
def _locked() -> Iterator[None]:
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_dependencies() -> None:
    home = _home()
    shutil.rmtree(home, ignore_errors=True)
    command = [
        *("mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies"),
        *("-DincludeScope=runtime", f"-DoutputDirectory={home / 'lib'}"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as late:
        raise FetchFailed(f"mvn took more than {FETCH_TIMEOUT_S} s") from late
    if done.returncode:
        raise FetchFailed(f"mvn ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    (home / "complete").touch()


@functools.cache
def _java_version() -> int:
    """The major version, 0 without Java."""
    if not shutil.which("java"):
        return 0
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found[1]) if found else 0
