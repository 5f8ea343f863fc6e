"""The pytest plugin of YADTQ.

A package of its own: every pytest run imports it, and importing `yadtq` takes a third of a second.
Nothing of YADTQ is imported before a test asks for the fixture `yadtq_world`.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq import Yadtq
    from yadtq.testing import World

__all__ = ["pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("yadtq").addoption(
        "--yadtq-servers",
        choices=("memory", "real"),
        default="memory",
        help="where worlds of yadtq.testing run: in memory (default), or on the servers of the app's settings",
    )


async def _world(yadtq_app: Yadtq, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world of the app that the fixture `yadtq_app` returns: see `yadtq.testing.running`."""
    from yadtq.testing import running

    async with running(yadtq_app, servers=request.config.getoption("--yadtq-servers")) as world:
        yield world


def _app() -> Yadtq:
    """To be replaced in your conftest.py."""
    raise pytest.UsageError("yadtq_world needs a fixture `yadtq_app` that returns your app: define it in conftest.py")


def pytest_configure(config: pytest.Config) -> None:
    # Once all plugins are there: an async fixture needs the decorator of the one that runs it.
    fixture: Any = pytest.fixture
    if config.pluginmanager.hasplugin("asyncio"):
        import pytest_asyncio

        fixture = pytest_asyncio.fixture
    fixtures: Any = ModuleType("pytest_yadtq.fixtures")
    fixtures.world = fixture(name="yadtq_world")(_world)
    fixtures.app = pytest.fixture(name="yadtq_app")(_app)
    config.pluginmanager.register(fixtures, "yadtq-fixtures")
