"""The blocking client without servers: options, and errors of the constructor in bounded time."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from yadtq import ConfigError, StoreUnavailable, Yadtq
from yadtq.sync import YADTQClient, _with_options
from yadtq.task import CallOptions

REFUSING = {"kafka": "127.0.0.1:1", "redis": "redis://127.0.0.1:1/0"}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("yadtq-")]


def test_options_of_a_call_go_over_those_of_the_task():
    app = Yadtq("shop")

    @app.task(timeout=3)
    async def sell() -> None: ...

    assert _with_options("sell", CallOptions(retries=2)) == ("sell", CallOptions(retries=2))
    assert _with_options(sell, CallOptions(queue="slow")) == (sell, CallOptions(queue="slow"))
    bound = sell.options(retries=5, timeout=7)
    assert _with_options(bound, CallOptions(timeout=1)) == (sell, CallOptions(retries=5, timeout=1))


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"timeout": 0}, {"timeout": -1.0}, {"timeout": float("nan")}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        _with_options("sell", CallOptions(**wrong))


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
