"""The blocking client without servers: options, and errors of the constructor in bounded time."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from yadtq import ConfigError, StoreUnavailable, Yadtq
from yadtq.sync import YADTQClient

REFUSING: dict[str, Any] = {"kafka": "127.0.0.1:1", "redis": "redis://127.0.0.1:1/0"}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("yadtq-")]


@pytest.mark.parametrize(
    "wrong", [{"app": "a b"}, {"kafka": "nowhere"}, {"redis": "nowhere"}, {"no_such": 1}, {"connect_timeout_s": -1}]
)
def test_wrong_settings_are_refused_before_any_thread_starts(wrong):
    with pytest.raises(ConfigError):
        YADTQClient(**wrong)
    assert threads() == []


def test_nobody_listens():
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        YADTQClient(**REFUSING)
    assert threads() == []


def test_somebody_listens_but_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"within 0.3 s"):
            YADTQClient(redis=f"redis://127.0.0.1:{silent.getsockname()[1]}/0", connect_timeout_s=0.3)
    assert time.monotonic() - started < 5
    assert threads() == []


def test_settings_of_a_given_app_hold_and_may_be_replaced():
    app = Yadtq("shop", **REFUSING, connect_timeout_s=0.5)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        YADTQClient(app=app)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:2"):
        YADTQClient(app=app, redis="redis://127.0.0.1:2/0")
    assert app.settings.redis == REFUSING["redis"]
