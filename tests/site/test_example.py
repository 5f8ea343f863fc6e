"""The example project: its compose file names what is there."""

from __future__ import annotations

import yaml

from tests.site.contents import ROOT
from yadtq.app import load_app

ORDERS = ROOT / "examples" / "orders"


def test_its_workers_consume_the_queues_that_its_tasks_name(monkeypatch):
    monkeypatch.syspath_prepend(str(ORDERS))
    app = load_app("orders.app:app")
    services = yaml.safe_load((ORDERS / "compose.yaml").read_text())["services"]
    consumed = {
        command[command.index("--queues") + 1]
        for each in services.values()
        if "--queues" in (command := each["command"])
    }
    assert consumed == set(app.queues)


def test_its_servers_are_those_of_the_compose_file_that_it_includes():
    inside = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for service in yaml.safe_load((ORDERS / "compose.yaml").read_text())["services"].values():
        for variable in ("YADTQ_KAFKA", "YADTQ_REDIS"):
            assert service["environment"][variable] == inside["supervisor"]["environment"][variable]
        assert set(service["depends_on"]) <= set(inside)
