"""Says what pip-audit has found for one lock file. Exit status 1 if that is a vulnerability; `.ci/audit` calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def report(lock: str, found: str, errors: str) -> tuple[int, str]:
    """The exit status, and what to print. found: pip-audit's JSON. errors: what it wrote to its standard error."""
    try:
        packages = json.loads(found)["dependencies"]
        vulnerable = [package for package in packages if package.get("vulns")]
        skipped = [package for package in packages if "skip_reason" in package]
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, f"audit: {lock}: not done: {(errors.strip().splitlines() or ['no answer'])[-1][:300]}"
    lines = [
        f"audit: {lock}: {package['name']} {package['version']}: {vuln['id']}, fixed in {vuln['fix_versions']}"
        for package in vulnerable
        for vuln in package["vulns"]
    ]
    looked_at = len(packages) - len(skipped)
    if skipped:
        lines.append(f"audit: {lock}: not done for {len(skipped)} of {len(packages)}: {skipped[0]['skip_reason']}")
    lines.append(f"audit: {lock}: {looked_at} packages looked at, {len(vulnerable)} vulnerable")
    return bool(vulnerable), "\n".join(lines)


if __name__ == "__main__":
    lock, *paths = sys.argv[1:]
    status, text = report(lock, *(Path(path).read_text(errors="replace") for path in paths))
    print(text)
    sys.exit(status)
