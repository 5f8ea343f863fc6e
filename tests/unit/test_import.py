"""What `import yadtq` costs a program that only defines or submits tasks: counted, since seconds depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys

#: 366 were loaded when this was written, in 0.2 s; with the clients of both servers it was 0.37 s.
_MOST_MODULES = 400
_LATER = ("aiokafka", "redis", "opentelemetry", "typer", "rich", "yadtq.worker", "yadtq.testing", "yadtq.embedded")


def loaded(statement: str) -> list[str]:
    program = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    found: list[str] = json.loads(done.stdout)
    return found


def test_an_app_needs_no_client_of_a_server() -> None:
    modules = loaded("import yadtq, yadtq.sync; yadtq.Yadtq('shop').task(lambda: None)")
    early = [each for each in modules if each.startswith(_LATER) and not each.startswith("redis_")]
    assert early == []
    assert len(modules) <= _MOST_MODULES
