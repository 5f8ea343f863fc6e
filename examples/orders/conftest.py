"""A fresh bank and mailbox for each test."""

import pytest
from orders import shared


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> shared.State:
    fresh = shared.State()
    monkeypatch.setattr(shared, "STATE", fresh)
    return fresh
