"""The counting of house rules finds what it is to find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import house_rules
from tests.support.house_rules import LONGEST_FUNCTION, RULES, offences

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = {
    "length": ("a.py", "def long():\n" + "    x = 1\n" * LONGEST_FUNCTION, "a.py:long"),
    "positional": ("a.py", "class A:\n    def f(self, a, b, c, d, e): ...\n", "a.py:A.f"),
    "constructor": ("a.py", "class A:\n    def __init__(self, a, *, b, c, d, e, f, g): ...\n", "a.py:A.__init__"),
    "private": ("broker/a.py", "def f(client):\n    return client._coordinator\n", "broker/a.py"),
    "concrete": ("worker/a.py", "from yadtq.store.redis import RedisStore\n", "worker/a.py"),
}
KEPT = {
    "a.py": "class A:\n    def f(self, a, b, c, d, *, e): ...\n    @staticmethod\n    def g(a, b, c, d): ...\n",
    "b.py": "def short():\n" + "    x = 1\n" * (LONGEST_FUNCTION - 1),
    "broker/a.py": "class A:\n    def __init__(self, other: 'A'):\n        self._own = 1\n        other._own\n",
    "broker/aiokafka_life.py": "def f(client):\n    return client._coordinator\n",
    "worker/__main__.py": "from yadtq.store.redis import RedisStore\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(house_rules, "PACKAGE", tmp_path)
    for name, text in KEPT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_keeps_them_is_let_alone(package: Path) -> None:
    assert list(offences()) == []


@pytest.mark.parametrize("rule", RULES)
def test_what_breaks_one_is_found(package: Path, rule: str) -> None:
    name, text, place = BROKEN[rule]
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text(text)
    assert list(offences()) == [(rule, place)] if rule != "constructor" else (rule, place) in offences()
