"""Whether the job was done: each file has exactly one final result, and it is the right one. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from yadtq.demo.tasks import Report

__all__ = ["problems"]


def problems(
    expected: Mapping[str, str], reports: Sequence[Report], again: Sequence[Report], failures: Iterable[str] = ()
) -> list[str]:
    """One line for each thing that is wrong; none: all is well.

    expected: SHA-256 by path. reports: the results as they were pushed. again: the same asked for a second time, when
    all had ended; a difference means that a final result was overwritten. failures: tasks that ended in another way.
    """
    found = [f"no result: {failure}" for failure in failures]
    seen = Counter(report.path for report in reports)
    found += [f"not reported: {path}" for path in expected if path not in seen]
    found += [f"reported {count} times: {path}" for path, count in seen.items() if count > 1]
    found += [f"reported, but never asked for: {path}" for path in seen if path not in expected]
    found += [
        f"wrong SHA-256: {report.path}"
        for report in reports
        if report.path in expected and report.sha256 != expected[report.path]
    ]
    later = {report.path: report for report in again}
    found += [f"the result changed: {report.path}" for report in reports if later.get(report.path) != report]
    return found
