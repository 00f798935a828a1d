"""Says what an audit of dependencies found: audited.py REPORT.json LOG. Called by audit.sh.

pip-audit reports a package that its database does not know as skipped, and ends with "no known vulnerabilities":
only what was looked at counts here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

OURS = "streamrnn"  # in no database


def verdict(report: str, log: str) -> tuple[int, str]:
    """Return the exit status and what is said: 1 for a vulnerability, 0 also where nothing could be asked."""
    if not report.strip():
        last = log.strip().splitlines()[-1:] or ["no report"]
        return 0, f"audit: NOT CHECKED, THE DATABASE OF VULNERABILITIES CANNOT BE ASKED: {last[0][:200]}"
    packages = [each for each in json.loads(report)["dependencies"] if each["name"] != OURS]
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    found = [
        f"  {each['name']} {each['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'none'}"
        for each in packages
        for one in each.get("vulns", [])
    ]
    looked_at = len(packages) - len(skipped)
    if not looked_at:
        return 0, f"audit: NOT CHECKED, NONE OF {len(packages)} PACKAGES IS KNOWN TO THE DATABASE"
    notice = f"; NOT CHECKED: {', '.join(skipped)}" if skipped else ""
    if found:
        return 1, "\n".join([f"audit: {len(found)} known vulnerabilities in {looked_at} packages{notice}", *found])
    return 0, f"audit: {looked_at} packages, no known vulnerability{notice}"


if __name__ == "__main__":
    report_path, log_path = (Path(each) for each in sys.argv[1:3])
    status, said = verdict(report_path.read_text() if report_path.exists() else "", log_path.read_text())
    print(said, file=sys.stderr)
    raise SystemExit(status)
